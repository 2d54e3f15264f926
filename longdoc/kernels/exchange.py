"""What the kernels of one layer leave for each other, so that nothing is made or moved twice.

Letters: ``b`` documents, ``l`` tokens, ``d`` channels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Exchange:
    """One pass of one layer, forward and back.

    Attributes:
        states: What the scan kept when it went forward. Where they are there already the pass is a
            recomputation (``torch.utils.checkpoint``): the scan then takes them and does not scan
            again; its output, which nobody reads in a recomputation, is left as zeros.
        gradient: Memory of shape ``(b, l, 2 d)`` for the gradients of two halves of one tensor: the
            scan leaves the second half there, the convolution the first, and :func:`halves` hands
            on the whole without putting it together.
    """

    def __init__(self) -> None:
        self.states: Tensor | None = None
        self.gradient: Tensor | None = None


def halves(both: Tensor, exchange: Exchange) -> tuple[Tensor, Tensor]:
    """Give both halves of ``(b, l, 2 d)``; gradients that lie side by side are not copied."""
    found: tuple[Tensor, Tensor] = _Halves.apply(both, exchange)  # type: ignore[no-untyped-call]
    return found


class _Halves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor, exchange: Exchange) -> tuple[Tensor, Tensor]:
        ctx.exchange = exchange
        first, second = both.chunk(2, dim=2)
        return first, second

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, first: Tensor, second: Tensor) -> tuple[Tensor, None]:
        whole, ctx.exchange.gradient = ctx.exchange.gradient, None
        if whole is not None and _is_whole(whole, first, second):
            return whole, None
        return torch.cat([first, second], dim=2), None


def _is_whole(whole: Tensor, first: Tensor, second: Tensor) -> bool:
    parts = whole.chunk(2, dim=2)
    return all(
        part.data_ptr() == given.data_ptr()
        and part.stride() == given.stride()
        and part.shape == given.shape
        for part, given in zip(parts, (first, second), strict=True)
    )
