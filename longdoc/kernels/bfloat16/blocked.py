"""Products of bfloat16 by tensor operations: some rows at a time become float32.

Args and results are those of :mod:`longdoc.kernels.bfloat16.choose`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from longdoc.kernels import memory

ROWS = 1024
"""Rows that are float32 at a time, a decision of the project: enough for a product at its full
rate, and few enough to stay in the cache of the last level."""


def multiply(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply ``(m, k)`` by ``(k, n)`` and add ``(n,)``."""
    out = memory.empty((left.shape[0], right.shape[1]), left.dtype, left.device)
    wide, offset = right.float(), 0.0 if bias is None else bias.float()
    for rows, some in _blocks(left):
        out[rows] = (some @ wide).add_(offset)
    return out


def add(to: Tensor, left: Tensor, right: Tensor, scaling: float) -> None:
    """Add ``scaling`` times ``(m, k)`` by ``(k, n)`` to ``(m, n)``."""
    wide = right.float()
    for rows, some in _blocks(left):
        to[rows] = to[rows].float().addmm_(some, wide, alpha=scaling)


def gather(left: Tensor, right: Tensor) -> Tensor:
    """Multiply the transpose of ``(m, n)`` by ``(m, k)``."""
    total = right.new_zeros(left.shape[1], right.shape[1], dtype=torch.float32)
    for rows, some in _blocks(left):
        total.addmm_(some.t(), right[rows].float())
    return total


def _blocks(left: Tensor) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(left), ROWS):
        rows = slice(start, start + ROWS)
        yield rows, left[rows].float()
