"""Rows of tokens with padding at an end, or several documents, for attention without squares.

What stands at padding is read by nobody who masks it, but by losses over all places: it is what
transformers' eager attention gives there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from longdoc.heads.pooling import can_look
from longdoc.kernels import causal_attention


def adapter_of_each_row(module: nn.Module) -> Sequence[str] | None:
    """Give the names that peft's ``adapter_names`` put on a layer for this call, one a row."""
    for hook in module._forward_pre_hooks.values():
        names: Sequence[str] | None = getattr(hook, "keywords", {}).get("adapter_names")
        if names is not None:
            return names
    return None


@dataclass(frozen=True)
class Rows:
    """Rows of tokens that are more than a document each, or less.

    Attributes:
        starts: Where each document, and the padding before one, begins where the rows are laid one
            after the other, at last the number of tokens, ``b l``; shape ``(documents + 1,)``. None
            where each row is one document, with padding behind it or without.
        blind: Which tokens are padding before a document, or of a row of nothing else; shape
            ``(b l, 1)``, or ``(b, 1, l, 1)`` where ``starts`` is None. In transformers every score
            of theirs is the same, so they take the mean of what stands before them.
        b: Rows.
        ends: Of each row with padding behind its document where that begins and ends.
        equal: Whether what is out of a window counts as much as padding in it, as in float32, whose
            least number masks both; in a narrower type padding counts more.
    """

    starts: Tensor | None
    blind: Tensor | None
    b: int
    ends: dict[int, tuple[int, int]]
    equal: bool

    def parts(self, x: Tensor) -> Tensor:
        """Lay ``(1, heads, b l, width)`` as the rows lie, ``(b, heads, l, width)``."""
        if self.starts is None:
            return x
        return x[0].unflatten(1, (self.b, -1)).transpose(0, 1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        """Attend as transformers does with a mask of padding.

        Args:
            query: Shape ``(b, heads, l, width)``, or with all rows in one.
            key: The same.
            value: The same.
            window: Tokens that a local layer sees; None for a global one.

        Returns:
            The same shape.
        """
        if self.blind is not None:
            query = query.masked_fill(self.blind, 0)
        found = causal_attention(query, key, value, 1.0, window, self.starts)
        if not self.ends:
            return found
        rows = self.parts(found).clone()
        queries, keys, values = (self.parts(x) for x in (query, key, value))
        for row, (begin, end) in self.ends.items():
            seen = (queries[row, :, end:], keys[row], values[row])
            rows[row, :, end:] = self._behind(*seen, begin, end, window)
        if self.starts is None:
            return rows
        return rows.transpose(0, 1).flatten(1, 2)[None]

    def _behind(
        self, query: Tensor, key: Tensor, value: Tensor, begin: int, end: int, window: int | None
    ) -> Tensor:
        """Give what padding behind a document sees, shape ``(heads, padding, width)``.

        It sees the document, in a local layer that of it which is in the window; beyond that every
        score is the same: the mean of the padding in the window and of all of the document.
        """
        padding, length = query.shape[1], key.shape[1]
        if window is None:
            first, near, mask = begin, padding, None
        else:
            first, near = max(begin, end - window + 1), min(padding, window - 1)
            places = torch.arange(end, end + near, device=query.device)[:, None]
            mask = torch.arange(first, end, device=query.device)[None] > places - window
        found = [
            functional.scaled_dot_product_attention(
                query[None, :, :near], key[None, :, first:end], value[None, :, first:end],
                attn_mask=mask, scale=1.0,
            )[0]
        ] if near else []  # fmt: skip
        if window is not None and near < padding:
            sums = functional.pad(value.double().cumsum(1), (0, 0, 1, 0))
            far = torch.arange(end + near, length, device=query.device) + 1
            total, number = sums[:, far] - sums[:, far - window], window
            if self.equal:
                total = total + (sums[:, end] - sums[:, begin])[:, None]
                number = window + end - begin
            found.append((total / number).to(value.dtype))
        return torch.cat(found, dim=1)


@dataclass(frozen=True)
class Unread:
    """Rows with padding anywhere: with holes, or within a graph, where nobody looks at a mask.

    Attributes:
        real: Which tokens are no padding, shape ``(b, l)``, true and false.
    """

    real: Tensor

    def parts(self, x: Tensor) -> Tensor:
        """Give heads as they are, ``(b, heads, l, width)``; see :meth:`Rows.parts`."""
        return x

    def attend(self, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        """Attend; what no token sees may differ from transformers'. Args: see :class:`Rows`."""
        return causal_attention(query, key, value, 1.0, window, real=self.real)


def are_runs(real: Tensor) -> bool:
    """Say whether the real tokens of each row, ``(b, l)``, stand one after the other."""
    begins = real[:, :1].sum(1) + (real[:, 1:] & ~real[:, :-1]).sum(1)
    return bool((begins <= 1).all())


def see_real_tokens(real: Tensor, window: int | None) -> bool:
    """Say whether every token sees a real one in the window, or there is none before it at all.

    Another one is, in transformers, the mean of all that it does not see.

    Args:
        real: Which tokens are no padding, shape ``(b, l)``, true and false.
        window: How many of the last tokens are seen, itself among them; all without.
    """
    if window is None:
        return True
    so_far = real.cumsum(1)
    within = so_far - functional.pad(so_far, (window, 0))[:, : real.shape[1]]
    return bool(((within > 0) | (so_far == 0)).all())


def rows_of(
    x: Tensor, mask: Tensor | None, position_ids: Tensor | None, cached: bool
) -> Rows | Unread | None:
    """Find the documents of rows; None where each row is one from its start to its end.

    Args:
        x: Embedded tokens, shape ``(b, l, d)``.
        mask: 1 for real tokens, shape ``(b, l)``.
        position_ids: Where there is no mask, and nothing is cached, a place that is not the one
            after the last begins a document, as in transformers; shape ``(b, l)`` or ``(1, l)``.
        cached: Whether keys and values are kept.
    """
    b, length = x.shape[:2]
    blind, ends = None, {}
    if mask is not None and (not can_look(mask) or not are_runs(mask.bool())):
        return Unread(mask.bool())
    if mask is not None:
        real = mask.bool()
        begins = real & ~real.roll(1, 1)
        blind = real.cumsum(1) == 0
        first, after = (
            blind.sum(1).tolist(),
            (length - (real.flip(1).cumsum(1) == 0).sum(1)).tolist(),
        )
        ends = {
            row: (first[row], after[row]) for row in range(b) if first[row] < after[row] < length
        }
    elif position_ids is not None and not cached:
        begins = (position_ids.diff(dim=1, prepend=position_ids[:, :1]) != 1).expand(b, length)
    else:
        return None
    equal = x.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    if not bool(begins[:, 1:].any()):
        # Every document begins with its row, so only a row of padding alone can be blind.
        blind = None if blind is None or not bool(blind.any()) else blind[:, None, :, None]
        return Rows(None, blind, b, ends, equal) if ends or blind is not None else None
    begins = torch.cat([begins.new_ones(b, 1), begins[:, 1:]], dim=1)
    starts = begins.flatten().nonzero()[:, 0]
    starts = torch.cat([starts, starts.new_tensor([b * length])])
    return Rows(starts, None if blind is None else blind.view(-1, 1), b, ends, equal)
