"""Attention in operations that torch differentiates, for gradients of gradients.

Letters: ``b`` documents, ``l`` tokens, ``h`` heads, ``d`` width of a head. Some queries go at a
time and are made again on the way back, so that the weights of these alone are there at once.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longdoc.kernels import native_library

ROWS = 256
"""Queries at a time: a decision of the project."""


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    window: int,
    stays: Tensor | None = None,
    rate: float = 0.0,
) -> Tensor:
    """Attend as the compiled kernel does.

    Args:
        query: Shape ``(b, l, h, d)``.
        key: Of the same shape.
        value: Of the same shape.
        mask: Added to scores, shape ``(b, 1, l, l)``.
        scale: Scores are multiplied by it.
        window: How many of the last tokens are seen, itself among them; 0 for all, later ones too.
        stays: Which weights dropout leaves, shape ``(b, h, l, l)``; all without.
        rate: Share of the weights that dropout takes.

    Returns:
        Shape ``(b, l, h, d)``, type of the inputs.
    """
    # torch.func has no saved tensor hooks, of which checkpoint is made.
    again = torch.is_grad_enabled() and not native_library.is_transformed()
    places = torch.arange(query.shape[1], device=query.device)
    outputs = []
    for rows in places.split(ROWS):
        first = max(0, int(rows[0]) - window + 1) if window else 0
        keys = places[first : int(rows[-1]) + 1] if window else places
        apart = rows[:, None] - keys
        unseen = (apart < 0) | (apart >= window) if window else None
        ours, theirs = (slice(int(part[0]), int(part[-1]) + 1) for part in (rows, keys))
        given, kept = (None if part is None else part[:, :, ours, theirs] for part in (mask, stays))
        factor = None if kept is None else kept / (1 - rate)
        near = (query[:, ours], key[:, theirs], value[:, theirs])
        arguments = (*near, scale, given, unseen, factor)
        out = checkpoint(_part, *arguments, use_reentrant=False) if again else _part(*arguments)
        outputs.append(out)
    return torch.cat(outputs, dim=1)


def _part(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    mask: Tensor | None,
    unseen: Tensor | None,
    factor: Tensor | None,
) -> Tensor:
    kind = torch.promote_types(query.dtype, torch.float32)
    q, k, v = (part.to(kind).transpose(1, 2) for part in (query, key, value))
    scores = scale * q @ k.transpose(2, 3)
    if mask is not None:
        scores = scores + mask.clamp(min=torch.finfo(mask.dtype).min)
    if unseen is not None:
        scores = scores.masked_fill(unseen, float("-inf"))
    weights = scores.softmax(-1)
    if factor is not None:
        weights = weights * factor
    return (weights @ v).transpose(1, 2).to(query.dtype)
