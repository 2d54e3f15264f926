"""The selective scan as the paper writes it: one token after the other.

Letters: ``b`` documents, ``d`` channels, ``l`` tokens, ``n`` states a channel, ``g`` groups of
channels that share B and C. The state ``h`` of (gu2023mamba, Alg. 2 with Eq. 2a, 2b) is
``h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t]`` and the output ``y[t] = C[t] h[t] + D u[t]``.

Departure from Eq. 4: B is multiplied by delta alone (Euler), as in the authors' own kernels.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


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
    """Scan token by token; slow, and the measure of every other variant.

    Args and result are those of :func:`longdoc.kernels.selective_scan`.
    """
    if starts is not None:
        return one_by_one(
            selective_scan, u, delta, A, B, C, D, z, delta_bias, delta_softplus,
            return_last_state, initial_state, starts,
        )  # fmt: skip
    kind = torch.float64 if u.dtype == torch.float64 else torch.float32
    x, step = u.to(kind), step_size(delta.to(kind), delta_bias, delta_softplus)
    wide_b, wide_c = (spread(part.to(kind), u) for part in (B, C))
    rate = A.to(kind)
    h = torch.zeros(*u.shape[:2], A.shape[1], dtype=kind, device=u.device)
    if initial_state is not None:
        h = initial_state.to(kind)
    outputs = []
    for t in range(u.shape[2]):
        decay = torch.exp(step[:, :, t, None] * rate)
        h = decay * h + (step[:, :, t] * x[:, :, t])[..., None] * wide_b[..., t]
        outputs.append((h * wide_c[..., t]).sum(-1))
    y = finish(torch.stack(outputs, dim=2), x, D, z).to(u.dtype)
    return (y, h) if return_last_state else y


def one_by_one(
    scan: Callable[..., Any],
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    return_last_state: bool,
    initial_state: Tensor | None,
    starts: Tensor,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan documents that lie one after the other, each by itself."""
    outputs, states = [], []
    for place, (start, stop) in enumerate(itertools.pairwise(starts.tolist())):
        cut = slice(start, stop)
        wide_b, wide_c = (part if part.dim() == 2 else part[..., cut] for part in (B, C))
        gate = None if z is None else z[..., cut]
        before = None if initial_state is None else initial_state[place : place + 1]
        y, last = scan(
            u[..., cut], delta[..., cut], A, wide_b, wide_c, D, gate, delta_bias, delta_softplus,
            True, before,
        )  # fmt: skip
        outputs.append(y)
        states.append(last)
    y = torch.cat(outputs, dim=2)
    return (y, torch.cat(states)) if return_last_state else y


def step_size(delta: Tensor, delta_bias: Tensor | None, softplus: bool) -> Tensor:
    """Give the step of every channel and token, shape ``(b, d, l)``."""
    if delta_bias is not None:
        delta = delta + delta_bias.to(delta.dtype)[:, None]
    return F.softplus(delta) if softplus else delta


def spread(part: Tensor, u: Tensor) -> Tensor:
    """Give B or C for every channel and token, shape ``(b, d, n, l)``, from any of its forms."""
    b, d, length = u.shape
    if part.dim() == 2:
        return part[None, :, :, None].expand(b, d, part.shape[1], length)
    if part.dim() == 3:
        part = part[:, None]
    groups, n = part.shape[1:3]
    wide = part[:, :, None].expand(b, groups, d // groups, n, length)
    return wide.reshape(b, d, n, length)


def finish(y: Tensor, x: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    """Add the skip connection and close the gate."""
    if D is not None:
        y = y + D.to(y.dtype)[:, None] * x
    return y if z is None else y * F.silu(z.to(y.dtype))
