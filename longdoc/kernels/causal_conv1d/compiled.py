"""The causal convolution through the compiled kernel, with its activation in the same pass.

Letters as in ``reference.py``. The kernel wants channels side by side, so inputs that come as
transposed views of ``(b, l, d)`` tensors are not copied. What the activation needs is computed
again on the way back.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from longdoc.kernels import memory, native_library, twice
from longdoc.kernels.arguments import ConvArguments
from longdoc.kernels.causal_conv1d import blocked, reference
from longdoc.kernels.exchange import Exchange, Gradients
from longdoc.kernels.native_library import TILE


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    starts: Tensor | None = None,
    exchange: Exchange | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolve and activate in one fused pass.

    Args and result are those of :func:`longdoc.kernels.causal_conv1d`; float64 is not served.
    """
    before = None if initial_states is None else initial_states.float().transpose(1, 2).contiguous()
    offset = None if bias is None else bias.float().contiguous()
    columns = weight.float().t().contiguous()
    arguments = (x.transpose(1, 2), columns, offset, before, starts, activation is not None)
    if torch.compiler.is_compiling():
        y = conv_forward(*arguments).transpose(1, 2)
    elif torch.is_grad_enabled():
        y = _Convolution.apply(*arguments, exchange and exchange.gradients).transpose(1, 2)  # type: ignore[no-untyped-call]
    else:
        y = _conv_forward(*arguments).transpose(1, 2)
    if not return_final_states:
        return y
    k = weight.shape[1]
    if starts is None:
        return y, reference.final_states(x, k, initial_states)
    parts = x.split(starts.diff().tolist(), dim=2)
    befores = [None] * len(parts) if initial_states is None else initial_states.split(1)
    ends = [reference.final_states(part, k, s) for part, s in zip(parts, befores, strict=True)]
    return y, torch.cat(ends)


def _conv_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
    silu: bool,
) -> Tensor:
    """Convolve ``(b, l, d)`` with ``(k, d)``."""
    out = memory.empty(x.shape, x.dtype, x.device)
    inputs = _inputs(x, weight, bias, initial, starts)
    arguments = _arguments(inputs, silu)
    native_library.fill(arguments, {"out": out})
    native_library.call("longdoc_conv_forward", arguments)
    return out


conv_forward = torch.library.custom_op(
    "longdoc::causal_conv1d_forward",
    native_library.without_tangents(_conv_forward),
    mutates_args=(),
    device_types="cpu",
)


@conv_forward.register_fake
def _made_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
    silu: bool,
) -> Tensor:
    return x.new_empty(x.shape)


def _conv_backward(
    dout: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
    silu: bool,
    gradients: Gradients | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Go back; gives the gradients of x, weight, bias and the initial states."""
    inputs = _inputs(x, weight, bias, initial, starts)
    arguments = _arguments(inputs, silu)
    gradient = native_library.rows(dout)
    arguments.dout_t = native_library.row_stride(gradient)
    k, d = weight.shape
    if dout.shape != x.shape:
        message = f"dout must have the shape of x, {tuple(x.shape)}; got {tuple(dout.shape)}"
        raise ValueError(message)
    dx = _beside(x, gradients)
    arguments.dx_t = native_library.row_stride(dx)
    parts = weight.new_empty(arguments.tiles, k + 1, d)
    dinitial = weight.new_empty(0) if initial is None else torch.empty_like(initial)
    made = {"dout": gradient, "dx": dx, "dweight": parts}
    native_library.fill(arguments, made)
    if initial is not None:
        native_library.fill(arguments, {"dinitial": dinitial})
    native_library.call("longdoc_conv_backward", arguments)
    found = parts.sum(0)
    return dx, found[:k].contiguous(), found[k].clone(), dinitial


def _beside(x: Tensor, gradients: Gradients | None) -> Tensor:
    """Give memory for a gradient: beside that of the gate, where the scan has left a place."""
    place = None if gradients is None else gradients.first(x)
    return memory.empty(x.shape, x.dtype, x.device) if place is None else place


def _conv_backward_operator(
    dout: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # An operator takes tensors and numbers, no place for gradients.
    return _conv_backward(dout, x, weight, bias, initial, starts, silu)


conv_backward = torch.library.custom_op(
    "longdoc::causal_conv1d_backward", _conv_backward_operator, mutates_args=(), device_types="cpu"
)


@conv_backward.register_fake
def _made_backward(
    dout: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    begin = weight.new_empty(0) if initial is None else torch.empty_like(initial)
    offset = weight.new_empty(x.shape[2])
    return x.new_empty(x.shape), weight.new_empty(weight.shape), offset, begin


def _inputs(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
) -> dict[str, Tensor | None]:
    """Give every input by name as the kernel reads it; they live as long as this dictionary."""
    places, tiles = native_library.parted(x, starts, TILE)
    documents = torch.arange(len(places) - 1, device="cpu").repeat_interleave(tiles.diff())
    return {
        "x": native_library.rows(x), "weight": weight, "bias": bias, "initial": initial,
        "starts": places, "tile_starts": tiles, "tile_documents": documents,
    }  # fmt: skip


def _arguments(inputs: dict[str, Any], silu: bool) -> ConvArguments:
    x, weight = inputs["x"], inputs["weight"]
    _check_inputs(inputs)
    arguments = ConvArguments(
        d=x.shape[2], k=weight.shape[0], tiles=len(inputs["tile_documents"]), silu=silu,
        half=x.dtype == torch.bfloat16, x_t=native_library.row_stride(x),
    )  # fmt: skip
    native_library.fill(arguments, inputs)
    return arguments


def _check_inputs(inputs: dict[str, Any]) -> None:
    """Refuse shapes that the kernel would read beyond."""
    d, k, documents = inputs["x"].shape[2], len(inputs["weight"]), len(inputs["starts"]) - 1
    for name, shape in (("weight", (k, d)), ("bias", (d,)), ("initial", (documents, k - 1, d))):
        part = inputs[name]
        if part is not None and tuple(part.shape) != shape:
            message = f"{name} must have shape {shape}; got {tuple(part.shape)}"
            raise ValueError(message)
    if not 2 <= k <= 4:
        message = f"weight must have 2 to 4 rows; got {k}"
        raise ValueError(message)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, silu = inputs
    ctx.save_for_backward(*tensors)
    ctx.silu = silu


def _backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    return (*_gradients(ctx, dout, conv_backward), None, None)


def _gradients(ctx: Any, dout: Tensor, run: Any) -> list[Tensor | None]:
    x, weight, bias, initial, starts = ctx.saved_tensors
    dx, dweight, dbias, dinitial = run(dout.to(x.dtype), x, weight, bias, initial, starts, ctx.silu)
    return [
        dx, dweight, None if bias is None else dbias, None if initial is None else dinitial,
    ]  # fmt: skip


conv_forward.register_autograd(_backward, setup_context=_setup)


def _followed(
    x: Tensor,
    columns: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    starts: Tensor | None,
    silu: bool,
) -> Tensor:
    """Convolve ``(b, l, d)`` with ``(k, d)`` in operations that torch differentiates."""
    before = None if initial is None else initial.transpose(1, 2)
    activation = "silu" if silu else None
    wide = x.transpose(1, 2)
    y = blocked.causal_conv1d(wide, columns.t(), bias, activation, before, starts=starts)
    assert isinstance(y, Tensor)
    return y.transpose(1, 2)


class _Convolution(torch.autograd.Function):
    """The operators outside of a compiler, with less between them and the kernel."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *arguments, ctx.gradients = inputs
        _setup(ctx, tuple(arguments), arguments[0])
        return _conv_forward(*arguments)

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        if twice.wanted(dout):
            *tensors, starts = ctx.saved_tensors
            again = partial(_followed, starts=starts, silu=ctx.silu)
            found = twice.gradients(again, tensors, (dout,), ctx.needs_input_grad[:4])
            return (*found, None, None, None)
        run = partial(_conv_backward, gradients=ctx.gradients)
        return (*_gradients(ctx, dout, run), None, None, None)
