"""Causal attention as it is defined, with the whole matrix of weights.

Letters: ``b`` documents, ``h`` heads, ``l`` tokens, ``d`` channels a head. A token attends to
itself and to earlier ones; with a window of ``w`` to the last ``w``, itself among them. GPT-Neo
does not divide scores by sqrt(d), as others do, so the factor is an argument.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

NEVER = -1e30
"""Added to the score of a token that is not real, as the compiled kernel does."""


def causal_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int | None = None,
    starts: Tensor | None = None,
    real: Tensor | None = None,
) -> Tensor:
    """Attend with a matrix of ``(l, l)``; the measure of the others.

    Args and result are those of :func:`longdoc.kernels.causal_attention`.
    """
    if starts is not None:
        return one_by_one(causal_attention, query, key, value, scale, window, starts)
    places = torch.arange(query.shape[2], device=query.device)
    apart = places[:, None] - places
    seen = (apart >= 0) & (apart < (window or query.shape[2]))
    scores = query @ key.transpose(2, 3) * scale
    if real is not None:
        scores = scores + unreal(real, scores.dtype)
    scores = scores.masked_fill(~seen, float("-inf"))
    return scores.softmax(-1) @ value


def unreal(real: Tensor, kind: torch.dtype) -> Tensor:
    """Give what is added to scores, ``(b, 1, 1, l)``: so little that rounding takes the score."""
    return torch.zeros(real.shape, dtype=kind, device=real.device).masked_fill(~real, NEVER)[
        :, None, None
    ]


def one_by_one(
    attend: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int | None,
    starts: Tensor,
) -> Tensor:
    """Attend within documents that lie one after the other, each by itself."""
    cuts = [slice(*pair) for pair in itertools.pairwise(starts.tolist())]
    parts = [
        attend(query[:, :, cut], key[:, :, cut], value[:, :, cut], scale, window) for cut in cuts
    ]
    return torch.cat(parts, dim=2)
