"""Products of bfloat16 on our own kernel, which reads it as float32 on the way.

Args and results are those of :mod:`longdoc.kernels.bfloat16.choose`.
"""

import torch
from torch import Tensor

from longdoc.kernels import memory, native_library
from longdoc.kernels.arguments import ProductArguments
from longdoc.kernels.native_library import PANEL

TASKS, ROWS = 16, 72
"""Few blocks of so many rows are parted by columns as well, until there are so many tasks."""
TOKENS = 2048
"""Tokens that are summed over at a time, for they all lie packed in float32 meanwhile."""


def multiply(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply ``(m, k)`` by ``(k, n)`` and add ``(n,)``."""
    out = memory.empty((left.shape[0], right.shape[1]), left.dtype, left.device)
    _run(left, right, out, bias)
    return out


def add(to: Tensor, left: Tensor, right: Tensor, scaling: float) -> None:
    """Add ``scaling`` times ``(m, k)`` by ``(k, n)`` to ``(m, n)``."""
    _run(left, right, to, scaling=scaling, add=True)


def gather(left: Tensor, right: Tensor) -> Tensor:
    """Multiply the transpose of ``(m, n)`` by ``(m, k)``."""
    total = right.new_zeros(left.shape[1], right.shape[1], dtype=torch.float32)
    for start in range(0, len(left), TOKENS):
        tokens = slice(start, start + TOKENS)
        _run(left[tokens].t(), right[tokens], total, add=True)
    return total


def _run(
    left: Tensor,
    right: Tensor,
    out: Tensor,
    bias: Tensor | None = None,
    scaling: float = 1.0,
    add: bool = False,
) -> None:
    (m, k), n = left.shape, right.shape[1]
    if not m or not n:
        return
    arguments = ProductArguments(
        m=m, n=n, k=k, narrow=out.dtype == torch.bfloat16,
        add=add, parts=min(-(-n // PANEL), max(1, TASKS * ROWS // m)), scaling=scaling,
        a_m=left.stride(0), a_k=left.stride(1), b_k=right.stride(0), b_n=right.stride(1),
    )  # fmt: skip
    packed = memory.empty((-(-n // PANEL) * PANEL * k,), torch.float32, left.device)
    offset = None if bias is None else bias.float().expand(n).contiguous()
    given = {"a": left, "b": right, "bias": offset, "out": out, "packed": packed}
    native_library.fill(arguments, given)
    native_library.call("longdoc_product", arguments)
