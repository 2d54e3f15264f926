"""The selective scan in tensor operations, in blocks of bounded memory.

Letters as in ``reference.py``. Runs anywhere torch does. Inside a block of ``BLOCK`` tokens the
recurrence is combined pairwise in log2(BLOCK) steps (blelloch1990prefix); between blocks the state
is carried. With gradients each block is recomputed in the backward pass, so that no tensor of size
``(b, d, l, n)`` is kept; outputs and states go into two tensors that are there from the beginning,
because small tensors that stay between large ones that go leave an allocator holes it cannot use.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from longdoc.kernels import twice
from longdoc.kernels.selective_scan import reference

BLOCK = 64


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
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan block by block.

    Args and result are those of :func:`longdoc.kernels.selective_scan`.
    """
    if starts is not None:
        return reference.one_by_one(
            selective_scan, u, delta, A, B, C, D, z, delta_bias, delta_softplus,
            return_last_state, initial_state, starts,
        )  # fmt: skip
    kind = torch.float64 if u.dtype == torch.float64 else torch.float32
    x, step = u.to(kind), reference.step_size(delta.to(kind), delta_bias, delta_softplus)
    h = torch.zeros(*u.shape[:2], A.shape[1], dtype=kind, device=u.device)
    if initial_state is not None:
        h = initial_state.to(kind)
    arguments = (h, x, step, A.to(kind), B.to(kind), C.to(kind))
    scan = _followed if _is_followed(arguments) else _Blocks.apply
    y, h = scan(*arguments)
    y = reference.finish(y, x, D, z).to(u.dtype)
    return (y, h) if return_last_state else y


def scan_rows(
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
) -> tuple[Tensor, Tensor]:
    """Scan ``(b, l, d)``, B and C ``(b, l, g, n)``; gives outputs and last states."""
    found = selective_scan(
        u.transpose(1, 2), delta.transpose(1, 2), A, B.permute(0, 2, 3, 1), C.permute(0, 2, 3, 1),
        D, None if z is None else z.transpose(1, 2), bias, softplus, True, initial, starts,
    )  # fmt: skip
    return found[0].transpose(1, 2), found[1]


class _Blocks(torch.autograd.Function):
    """All blocks, one after the other; only the states between them are kept."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, *tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = tokens[0]
        cuts = _cuts(x)
        outputs, first = torch.empty_like(x), h
        states = h.new_empty(len(cuts), *h.shape) if any(ctx.needs_input_grad) else None
        for number, cut in enumerate(cuts):
            if states is not None:
                states[number] = h
            outputs[..., cut], h = _block(h, *_cut(tokens, cut))
        if states is not None:
            ctx.save_for_backward(states, first, *tokens)
        return outputs, h.clone()

    @staticmethod
    def backward(ctx: Any, *from_above: Tensor) -> tuple[Tensor | None, ...]:
        above, d_h = from_above
        states, first, *tokens = ctx.saved_tensors
        if twice.wanted(above, d_h):
            return _followed_back((first, *tokens), states, from_above, ctx.needs_input_grad)
        found = [torch.zeros_like(part) for part in tokens]
        for number, cut in reversed(list(enumerate(_cuts(tokens[0])))):
            parts = [
                part.detach().requires_grad_() for part in (states[number], *_cut(tokens, cut))
            ]
            with torch.enable_grad():
                results = _block(*parts)
            d_h, *gradients = torch.autograd.grad(results, parts, (above[..., cut], d_h))
            for whole, gradient in zip(found, gradients, strict=True):
                (whole if whole.dim() == 2 else whole[..., cut]).add_(gradient)
        return (d_h, *found)


def _cuts(x: Tensor) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, x.shape[2], BLOCK)]


def _cut(parts: tuple[Tensor, ...] | list[Tensor], cut: slice) -> list[Tensor]:
    """Give the tokens of a block; what is constant, (d, n), is as it is."""
    return [part if part.dim() == 2 else part[..., cut] for part in parts]


def _is_followed(arguments: tuple[Tensor, ...]) -> bool:
    """Say whether every operation must be seen: by a compiler, torch.func, or for tangents."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    return any(forward_ad.unpack_dual(part).tangent is not None for part in arguments)


def _followed(h: Tensor, *tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Scan in operations that torch differentiates by itself, as often and as it likes."""
    outputs = []
    # torch.func has no saved tensor hooks, of which checkpoint is made, nor what is exported.
    unhooked = torch._C._are_functorch_transforms_active() or torch.compiler.is_exporting()
    for cut in _cuts(tokens[0]):
        arguments = (h, *_cut(tokens, cut))
        if torch.is_grad_enabled() and not unhooked:
            y, h = checkpoint(_block, *arguments, use_reentrant=False)
        else:
            y, h = _block(*arguments)
        outputs.append(y)
    return torch.cat(outputs, dim=2), h


def _followed_back(
    arguments: tuple[Tensor, ...],
    between: Tensor,
    from_above: tuple[Tensor, ...],
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Go back, a block after the other, such that it can be differentiated again.

    The states between the blocks are those of the forward pass.
    """
    h, *tokens = arguments
    above = from_above[0]
    d_h: Tensor | None = from_above[1]
    cuts, states = _cuts(tokens[0]), [h]
    for value, cut in zip(between[1:], cuts[:-1], strict=True):
        if torch.is_grad_enabled():
            states.append(twice.known(_state_after, value, (states[-1], *_cut(tokens, cut))))
        else:  # nothing is differentiated again; each state hands its gradient on all the same
            states.append(value.detach().requires_grad_())
    found: list[tuple[Tensor | None, ...]] = []
    for state, cut in zip(reversed(states), reversed(cuts), strict=True):
        asked = (state.requires_grad, *needed[1:])
        parts = (state, *_cut(tokens, cut))
        d_h, *gradients = twice.of_part(_block, parts, (_narrowed(above, cut), d_h), asked)
        found.append(tuple(gradients))
    wholes = [_put_together(tokens, place, found) for place in range(len(tokens))]
    return (d_h if needed[0] else None, *wholes)


def _narrowed(x: Tensor, cut: slice) -> Tensor:
    """Give the tokens of a block; of all tokens too, which a slice leaves as they are."""
    # A batch of gradients knows no alias.
    return x.narrow(-1, cut.start, min(cut.stop, x.shape[-1]) - cut.start)


def _state_after(*arguments: Tensor) -> Tensor:
    return _block(*arguments)[1]


def _put_together(
    tokens: list[Tensor], place: int, found: list[tuple[Tensor | None, ...]]
) -> Tensor | None:
    """Give the gradient of an input of those of its blocks, the last first."""
    parts = [part for gradients in reversed(found) if (part := gradients[place]) is not None]
    if not parts:
        return None
    return torch.stack(parts).sum(0) if tokens[place].dim() == 2 else torch.cat(parts, dim=-1)


def _block(
    h: Tensor,
    x: Tensor,
    step: Tensor,
    rate: Tensor,
    B: Tensor,
    C: Tensor,
) -> tuple[Tensor, Tensor]:
    """Scan one block from state ``h``; gives its outputs ``(b, d, l)`` and the state after it."""
    decay = torch.exp(step[..., None] * rate[None, :, None, :])
    added = (step * x)[..., None] * reference.spread(B, x).transpose(2, 3)
    added = torch.cat([added[:, :, :1] + decay[:, :, :1] * h[:, :, None], added[:, :, 1:]], dim=2)
    reach = 1
    while reach < x.shape[2]:
        joined = decay[:, :, reach:] * added[:, :, :-reach] + added[:, :, reach:]
        added = torch.cat([added[:, :, :reach], joined], dim=2)
        decay = torch.cat([decay[:, :, :reach], decay[:, :, reach:] * decay[:, :, :-reach]], dim=2)
        reach *= 2
    y = (added * reference.spread(C, x).transpose(2, 3)).sum(-1)
    return y, added[:, :, -1]
