"""Attention in operations that torch differentiates, for gradients of gradients.

Letters: ``b`` documents, ``l`` tokens, ``h`` heads, ``d`` width of a head. Some queries go at a
time and are made again on the way back, so that the weights of these alone are there at once.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from longdoc.kernels import native_library, twice

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
    again = native_library.may_checkpoint()
    outputs = []
    for ours, theirs, options in _parts(query, mask, scale, window, stays, rate):
        part: Any = partial(_part, **options)
        near = (query[:, ours], key[:, theirs], value[:, theirs])
        outputs.append(checkpoint(part, *near, use_reentrant=False) if again else part(*near))
    return torch.cat(outputs, dim=1)


def gradients(
    parts: Sequence[Tensor],
    above: Tensor,
    needed: Sequence[bool],
    mask: Tensor | None,
    scale: float,
    window: int,
    stays: Tensor | None,
    rate: float,
) -> tuple[Tensor | None, ...]:
    """Give gradients of query, key and value that can be differentiated again.

    Args:
        parts: Query, key and value as :func:`attention` takes them.
        above: Gradient of its result.
        needed: Which of the three are asked for.
        mask: As there.
        scale: As there.
        window: As there.
        stays: As there.
        rate: As there.
    """
    query, key, value = parts
    queries: list[Tensor | None] = []
    wholes: list[Tensor | None] = [None, None]
    for ours, theirs, options in _parts(query, mask, scale, window, stays, rate):
        near = (query[:, ours], key[:, theirs], value[:, theirs])
        dq, *others = twice.of_part(
            partial(_part, **options),
            near,
            (above.narrow(1, ours.start, ours.stop - ours.start),),
            needed,
        )
        queries.append(dq)
        behind = query.shape[1] - theirs.stop
        for place, part in enumerate(others):
            if part is not None:
                wide = functional.pad(part, (0, 0, 0, 0, theirs.start, behind))
                whole = wholes[place]
                wholes[place] = wide if whole is None else whole + wide
    dquery = torch.cat([part for part in queries if part is not None], dim=1) if needed[0] else None
    return dquery, *wholes


def _parts(
    query: Tensor,
    mask: Tensor | None,
    scale: float,
    window: int,
    stays: Tensor | None,
    rate: float,
) -> Iterator[tuple[slice, slice, dict[str, Any]]]:
    """Cut queries into parts; gives them, the keys they see, and what else :func:`_part` takes."""
    length = query.shape[1]
    places = torch.arange(length, device=query.device)
    for begin in range(0, length, ROWS):
        ours = slice(begin, min(begin + ROWS, length))
        theirs = slice(max(0, begin - window + 1), ours.stop) if window else slice(0, length)
        apart = places[ours, None] - places[theirs]
        given, kept = (None if part is None else part[:, :, ours, theirs] for part in (mask, stays))
        options = {
            "scale": scale,
            "mask": given,
            "unseen": (apart < 0) | (apart >= window) if window else None,
            "factor": None if kept is None else kept / (1 - rate),
        }
        yield ours, theirs, options


def _part(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
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
