"""Attention as transformers' eager GPT-Neo computes it, a part of the queries at a time.

For what blocks do not know: attention dropout, masks of four dimensions or with a hole as wide as
a window, a cache that holds tokens. Scores are those of all keys, but for local layers without a
mask, so the time grows with the square of the tokens; memory does not: nothing of a part is kept
but its result, and a part is computed again for its gradients.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from longdoc.kernels import native_library

LARGE = 2**20
"""Scores up to which a part is one, in all rows and heads: 4 MB in float32, our choice."""


@dataclass(frozen=True)
class Seen:
    """Which keys a query sees besides the window of its layer.

    Attributes:
        before: Tokens that stand before the first query.
        keys: Of all keys, also those of a cache's empty places.
        dtype: Of masks, whose least number is added to scores of what is not seen.
        real: 1 for keys that are no padding, shape ``(b, keys)``; None where all are.
        documents: The number of each key's document, shape ``(b, keys)``; None for one a row.
        given: A mask made by others instead, ``(b or 1, heads or 1, l or 1, keys or 1)``.
    """

    before: int
    keys: int
    dtype: torch.dtype
    real: Tensor | None = None
    documents: Tensor | None = None
    given: Tensor | None = None

    def span(self, queries: tuple[int, int], window: int | None) -> tuple[int, int]:
        """Give the keys that some queries look at, from the first to behind the last.

        Where something is masked a query may see nothing but what is masked, and is then the mean
        of all of that, wherever it stands.
        """
        if any(x is not None for x in (self.real, self.documents, self.given)):
            return 0, self.keys
        first = 0 if window is None else max(0, self.before + queries[0] - window + 1)
        return first, min(self.keys, self.before + queries[1])

    def rows(
        self,
        queries: tuple[int, int],
        keys: tuple[int, int],
        window: int | None,
        device: torch.device,
    ) -> tuple[Tensor, Tensor | None]:
        """Make what is masked for some queries and keys.

        Returns:
            Whether a key is before its query and in the window, shape ``(queries, keys)``, and
            what is added to scores, None for nothing more.
        """
        place = self.before + torch.arange(*queries, device=device)[:, None]
        key = torch.arange(*keys, device=device)[None]
        causal = key <= place
        inside = causal if window is None else causal & (key > place - window)
        if self.given is not None:
            wide = self.given.shape[-2] > 1
            return inside, self.given[..., slice(*queries), :] if wide else self.given
        if self.real is None and self.documents is None:
            return inside, None
        seen = causal[None]
        if self.real is not None:
            seen = seen & self.real[:, None, slice(*keys)]
        if self.documents is not None:
            mine, theirs = self.documents[:, slice(*queries)], self.documents[:, slice(*keys)]
            seen = seen & (mine[:, :, None] == theirs[:, None])
        least = torch.finfo(self.dtype).min
        return inside, torch.zeros_like(seen, dtype=self.dtype).masked_fill_(~seen, least)[:, None]


def are_large(rows: int, heads: int, queries: int, keys: int) -> bool:
    """Say whether scores are too many to be made at once."""
    return rows * heads * queries * keys > LARGE


def attend(
    query: Tensor, key: Tensor, value: Tensor, seen: Seen, window: int | None, dropout: float
) -> Tensor:
    """Attend without scaling, as transformers' ``GPTNeoSelfAttention._attn`` does.

    Args:
        query: Shape ``(b, heads, l, width)``.
        key: Shape ``(b, heads, keys, width)``.
        value: The same.
        seen: What is masked.
        window: Tokens that a local layer sees; None for a global one.
        dropout: Share of attention weights that are dropped, 0..1.

    Returns:
        Shape ``(b, heads, l, width)``, in the type of values.
    """
    learns = any(x.requires_grad for x in (query, key, value)) and native_library.may_checkpoint()
    found = []
    for queries in _parts(query, seen.keys):
        keys = seen.span(queries, window)
        given = [query[:, :, slice(*queries)], key[:, :, slice(*keys)], value[:, :, slice(*keys)]]
        dropped = (dropout, int(torch.randint(2**62, ()))) if dropout else None
        part = partial(_part, seen=seen, spans=(queries, keys), window=window, dropped=dropped)
        found.append(
            checkpoint(part, *given, use_reentrant=False, preserve_rng_state=False)
            if learns
            else part(*given)
        )
    return torch.cat(found, dim=2)


def _parts(query: Tensor, keys: int) -> Iterator[tuple[int, int]]:
    """Cut queries into parts of at most so many scores, but one query at least."""
    b, heads, length, _ = query.shape
    size = max(1, LARGE // (b * heads * keys))
    for first in range(0, length, size):
        yield first, min(length, first + size)


def _part(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Seen,
    spans: tuple[tuple[int, int], tuple[int, int]],
    window: int | None,
    dropped: tuple[float, int] | None,
) -> Tensor:
    """Attend with a part of the queries; what is dropped, its share, is drawn from a seed.

    The checkpoint draws it again, and must not find torch's state where another thread left it.
    """
    inside, mask = seen.rows(*spans, window, query.device)
    scores = query.float() @ key.float().transpose(-1, -2)
    scores = scores.masked_fill(~inside, torch.finfo(scores.dtype).min)
    # Masks are of the model's type; without one, too, softmax is no narrower than that.
    scores = (
        scores.to(torch.promote_types(scores.dtype, seen.dtype)) if mask is None else scores + mask
    )
    weights = functional.softmax(scores, dim=-1).to(value.dtype)
    if dropped is not None:
        share, seed = dropped
        generator = torch.Generator(weights.device).manual_seed(seed)
        kept = torch.empty_like(weights).bernoulli_(1 - share, generator=generator)
        weights = weights * (kept / max(1 - share, torch.finfo(kept.dtype).tiny))
    return weights @ value
