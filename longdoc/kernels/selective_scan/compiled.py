"""The selective scan through the compiled kernel, forward and backward.

Letters as in ``reference.py``. The kernel wants channels side by side, so inputs that come as
transposed views of ``(b, l, d)`` tensors, as a projection makes them, are not copied. It keeps the
state every few tokens and computes the others again on the way back: nothing of size
``(b, d, l, n)`` is stored. Both directions are operators of ``torch.library``, which
``torch.compile`` and export take as they are.
"""

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from longdoc.kernels import memory, native_library, twice
from longdoc.kernels.arguments import ScanArguments
from longdoc.kernels.exchange import Exchange, Gradients
from longdoc.kernels.native_library import MOST_STATES, SPAN
from longdoc.kernels.selective_scan import blocked
from longdoc.kernels.selective_scan.shapes import check_inputs, check_kept, shapes_of

__all__ = ["MOST_STATES", "selective_scan"]

NineTensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""Not a list, whose length torch could not know: batches of gradients go through no operator so."""


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    initial_state: Tensor | None = None,
    starts: Tensor | None = None,
    exchange: Exchange | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan in one fused pass.

    Args and result are those of :func:`longdoc.kernels.selective_scan`; B and C must vary over
    tokens, and float64 is not served (see ``choose.py``).
    """
    given = [x for x in (u, delta, z) if x is not None]
    same = all(x.dtype == torch.bfloat16 for x in given)
    kind = torch.bfloat16 if same else torch.float32
    B, C = _in_as_many_groups(B, C)
    arguments: tuple[Any, ...] = (
        _channels_last(u, kind), _channels_last(delta, kind), _plain(A), _by_token(B), _by_token(C),
        _plain(D), _channels_last(z, kind), _plain(delta_bias), _plain(initial_state), starts,
        delta_softplus,
    )  # fmt: skip
    tensors = [x for x in arguments if isinstance(x, Tensor)]
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    if keep and not torch.compiler.is_compiling():
        out, last = _Scan.apply(*arguments, exchange)  # type: ignore[no-untyped-call]
    else:
        run: Any = scan_forward if torch.compiler.is_compiling() else _scan_forward
        out, last, _ = run(*arguments, keep)
    y = out.transpose(1, 2).to(u.dtype)
    return (y, last) if return_last_state else y


def _channels_last(x: Any, kind: torch.dtype) -> Any:
    return None if x is None else x.to(kind).transpose(1, 2)


def _in_as_many_groups(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Give both as ``(b, g, n, l)`` with the same ``g``; the kernel has no other."""
    B, C = (part[:, None] if part.dim() == 3 else part for part in (B, C))
    most = max(B.shape[1], C.shape[1])
    groups = most
    while groups % B.shape[1] or groups % C.shape[1]:
        groups += most
    if groups > B.shape[1]:
        B = B.repeat_interleave(groups // B.shape[1], 1)
    if groups > C.shape[1]:
        C = C.repeat_interleave(groups // C.shape[1], 1)
    return B, C


def _by_token(grouped: Tensor) -> Tensor:
    """Give B or C, ``(b, g, n, l)``, as float32 ``(b, l, g, n)``."""
    return grouped.float().permute(0, 3, 1, 2).contiguous()


def _plain(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.float().contiguous()


def _scan_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
    softplus: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan ``(b, l, d)``; gives the output, the last states and, with ``keep``, the kept ones."""
    out = memory.empty(u.shape, u.dtype, u.device)
    last, states = (memory.empty(s, A.dtype, A.device) for s in shapes_of(u, A, starts, keep))
    inputs = _inputs(u, delta, A, B, C, D, z, bias, initial, starts)
    arguments = _arguments(inputs, softplus)
    native_library.fill(arguments, {"out": out, "last": last, "states": states if keep else None})
    native_library.call("longdoc_scan_forward", arguments)
    return out, last, states


scan_forward = torch.library.custom_op(
    "longdoc::selective_scan_forward",
    native_library.without_tangents(_scan_forward),
    mutates_args=(),
    device_types="cpu",
)


@scan_forward.register_fake
def _made_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
    softplus: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    last, states = shapes_of(u, A, starts, keep)
    return u.new_empty(u.shape), A.new_empty(last), A.new_empty(states)


def _scan_backward(
    dout: Tensor,
    dlast: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
    states: Tensor,
    softplus: bool,
    gradients: Gradients | None = None,
    rates: bool = True,
) -> NineTensors:
    """Go back; gives the gradients of u, delta, A, B, C, D, z, bias and the initial states.

    Without ``rates`` that of A is left out, as where A is frozen.
    """
    check_kept(states, u, A, starts)
    inputs = _inputs(u, delta, A, B, C, D, z, bias, initial, starts)
    arguments = _arguments(inputs, softplus)
    gradient = native_library.rows(dout)
    arguments.dout_t = native_library.row_stride(gradient)
    b, length, d = u.shape
    documents, n, groups = arguments.documents, arguments.n, arguments.groups
    parts = (groups, arguments.ranges, b * length, n)
    made: dict[str, Any] = {
        "du": memory.empty(u.shape, u.dtype, u.device),
        "ddelta": memory.empty(u.shape, u.dtype, u.device),
        "dA": A.new_empty(documents, d, n) if rates else None,
        "dB": memory.empty(parts, A.dtype, A.device),
        "dC": memory.empty(parts, A.dtype, A.device),
        "dD": A.new_empty(documents, d), "dbias": A.new_empty(documents, d),
        "dz": None if z is None else _beside(u, gradients),
        "dinitial": A.new_empty(documents, d, n) if initial is not None else None,
    }  # fmt: skip
    if dout.shape != u.shape or (dlast is not None and dlast.shape != (documents, d, n)):
        came = [tuple(part.shape) for part in (dout, dlast) if part is not None]
        message = f"dout must have shape {tuple(u.shape)}, dlast {(documents, d, n)}; got {came}"
        raise ValueError(message)
    given = {"dout": gradient, "dlast": _plain(dlast), "states": states}
    if z is not None:
        arguments.dz_t = native_library.row_stride(made["dz"])
    native_library.fill(arguments, {**given, **made})
    native_library.call("longdoc_scan_backward", arguments)
    for name in ("dA", "dD", "dbias"):
        made[name] = None if made[name] is None else made[name].sum(0)
    for name in ("dB", "dC"):
        # The kernel has added all ranges to the first.
        by_token = made[name][:, 0].transpose(0, 1)
        made[name] = by_token.reshape(b, length, groups, n).contiguous()
    order = ("du", "ddelta", "dA", "dB", "dC", "dD", "dz", "dbias", "dinitial")
    return cast(NineTensors, tuple(_or_nothing(made[name], A) for name in order))


def _beside(u: Tensor, gradients: Gradients | None) -> Tensor:
    """Give memory for the gate's gradient, where one is wanted beside that of the convolution."""
    b, length, d = u.shape
    if gradients is None:
        return memory.empty(u.shape, u.dtype, u.device)
    gradients.whole = memory.empty((b, length, 2 * d), u.dtype, u.device)
    return gradients.whole[:, :, d:]


def _scan_backward_operator(
    dout: Tensor,
    dlast: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
    states: Tensor,
    softplus: bool,
) -> NineTensors:
    # An operator takes tensors and numbers, no place for gradients.
    return _scan_backward(
        dout, dlast, u, delta, A, B, C, D, z, bias, initial, starts, states, softplus
    )


scan_backward = torch.library.custom_op(
    "longdoc::selective_scan_backward",
    _scan_backward_operator,
    mutates_args=(),
    device_types="cpu",
)


@scan_backward.register_fake
def _made_backward(
    dout: Tensor,
    dlast: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
    states: Tensor,
    softplus: bool,
) -> NineTensors:
    d = A.new_empty(A.shape[0])
    like = (u, u, A, B, C, d, u if z is not None else None, d, initial)
    made = (A.new_empty(0) if x is None else x.new_empty(x.shape) for x in like)
    return cast(NineTensors, tuple(made))


def _or_nothing(x: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0) if x is None else x


def _inputs(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
) -> dict[str, Tensor | None]:
    """Give every input by name as the kernel reads it; they live as long as this dictionary."""
    places, parts = native_library.parted(u, starts, SPAN)
    return {
        "u": native_library.rows(u), "delta": native_library.rows(delta),
        "z": None if z is None else native_library.rows(z), "A": A, "B": B, "C": C, "D": D,
        "bias": bias, "initial": initial, "starts": places,
        "span_starts": parts,
    }  # fmt: skip


def _arguments(inputs: dict[str, Any], softplus: bool) -> ScanArguments:
    u, A, B, starts = (inputs[name] for name in ("u", "A", "B", "starts"))
    check_inputs(inputs)
    d, groups = u.shape[2], B.shape[2]
    # By shapes alone, so that sums do not depend on the number of threads.
    size = next(size for size in (256, 128, 64) if size == 64 or d // groups >= 4 * size)
    arguments = ScanArguments(
        documents=len(starts) - 1, d=d, n=A.shape[1], groups=groups, range=size,
        ranges=-(-(d // groups) // size), softplus=softplus, half=u.dtype == torch.bfloat16,
    )  # fmt: skip
    for name in ("u", "delta", "z"):
        part = inputs[name]
        if part is not None:
            setattr(arguments, f"{name}_t", native_library.row_stride(part))
    native_library.fill(arguments, inputs)
    return arguments


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, softplus, _ = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.softplus = softplus
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any, dout: Tensor | None, dlast: Tensor | None, _: Any
) -> tuple[Tensor | None, ...]:
    return (*_gradients(ctx, dout, dlast, scan_backward), None, None, None)


def _gradients(
    ctx: Any, dout: Tensor | None, dlast: Tensor | None, run: Any
) -> list[Tensor | None]:
    *tensors, starts, states = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(tensors[0])
    if not states.shape[0]:
        # An exported graph goes back that was made where nobody wanted to.
        states = scan_forward(*tensors, starts, ctx.softplus, True)[2]
    found = run(dout, dlast, *tensors, starts, states, ctx.softplus)
    return [g if x is not None else None for g, x in zip(found, tensors, strict=True)]


scan_forward.register_autograd(_backward, setup_context=_setup)


class _Scan(torch.autograd.Function):
    """The operators outside of a compiler, with less between them and the kernel."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        *arguments, exchange = inputs
        *tensors, softplus = arguments
        u, A = tensors[0], tensors[2]
        if exchange is not None and exchange.states is not None:
            states = exchange.states
            out = u.new_zeros(1, 1, 1).expand(u.shape)
            last = A.new_zeros(1, 1, 1).expand(1, *A.shape)
        else:
            run: Any = _scan_forward
            out, last, states = run(*arguments, True)
            if exchange is not None:
                exchange.states = states
        ctx.save_for_backward(*tensors, states)
        ctx.softplus, ctx.gradients = softplus, exchange and exchange.gradients
        ctx.set_materialize_grads(False)
        return out, last

    @staticmethod
    def backward(ctx: Any, dout: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        if twice.wanted(dout, dlast):
            *tensors, starts, _ = ctx.saved_tensors
            again = partial(blocked.scan_rows, starts=starts, softplus=ctx.softplus)
            found = twice.gradients(again, tensors, (dout, dlast), ctx.needs_input_grad[:9])
            return (*found, None, None, None)
        # Where the gate needs none nobody would take the place.
        place = ctx.gradients if ctx.needs_input_grad[6] else None
        rates = ctx.needs_input_grad[2]
        run = partial(_scan_backward, gradients=place, rates=rates)
        return (*_gradients(ctx, dout, dlast, run), None, None, None)
