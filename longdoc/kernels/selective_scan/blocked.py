"""The selective scan in tensor operations, in blocks of bounded memory.

Letters as in ``reference.py``. Runs anywhere torch does. Inside a block of ``BLOCK`` tokens the
recurrence is combined pairwise in log2(BLOCK) steps (blelloch1990prefix); between blocks the state
is carried. With gradients each block is recomputed in the backward pass, so that no tensor of size
``(b, d, l, n)`` is kept.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

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
    outputs = []
    for start in range(0, u.shape[2], BLOCK):
        cut = slice(start, start + BLOCK)
        parts = [part if part.dim() == 2 else part[..., cut] for part in (B.to(kind), C.to(kind))]
        arguments = (h, x[..., cut], step[..., cut], A.to(kind), *parts)
        if torch.is_grad_enabled():
            y, h = checkpoint(_block, *arguments, use_reentrant=False)
        else:
            y, h = _block(*arguments)
        outputs.append(y)
    y = reference.finish(torch.cat(outputs, dim=2), x, D, z).to(u.dtype)
    return (y, h) if return_last_state else y


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
