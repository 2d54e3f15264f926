"""Matrix products at the rate the processor has.

PyTorch hands float32 products to MKL, which leaves AVX-512 unused on AMD processors; oneDNN, which
it has as well, is about twice as fast there, a tenth slower on Intel's, and no faster on AMD's
without AVX-512 (docs/experiment-log.md). Where PyTorch is slow with bfloat16, it goes to
:mod:`longdoc.kernels.bfloat16`. Letters: ``m`` tokens, ``k`` inputs, ``n`` outputs.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from longdoc.kernels import bfloat16, memory, native_library, twice

FEWEST = 64
"""Tokens below which a product is not worth the detour."""


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply ``(..., k)`` by the transpose of ``(n, k)``, without gradients.

    The result is no view, which autograd would let nobody change in place.
    """
    rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    if bfloat16.serves(x, weight):
        return shaped(bfloat16.multiply(rows, weight.t(), bias), x)
    many = x.numel() >= FEWEST * max(1, x.shape[-1])
    serves = many and x.dtype == torch.float32 and x.device.type == "cpu"
    if serves and _onednn is not None and not native_library.is_counted():
        # oneDNN reads the bias without its strides.
        offset = None if bias is None else bias.expand(weight.shape[0]).to(x.dtype).contiguous()
        return shaped(_onednn(rows, weight, offset, "none", [], ""), x)
    if not many or bias is not None or not _same(x, weight):
        return shaped(F.linear(rows, weight, bias), x)
    return shaped(multiplied(rows, weight.t()), x)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Do what ``F.linear`` does, the bias within the product whatever the strides of ``x``.

    Of an input that is no matrix and not contiguous, such as the columns of another one, torch
    makes a product and then a sum in a pass of its own, which takes longer than the product.
    """
    if bias is None or x.dim() < 3 or x.is_contiguous():
        return F.linear(x, weight, bias)
    rows = F.linear(x.reshape(-1, x.shape[-1]), weight, bias)
    return shaped(rows, x)


def shaped(rows: Tensor, x: Tensor) -> Tensor:
    """Give ``(m, n)`` the leading dimensions of ``x``; not a view for autograd."""
    return torch.ops.aten._unsafe_view(rows, (*x.shape[:-1], rows.shape[-1]))


def _same(x: Tensor, weight: Tensor) -> bool:
    return x.dtype == weight.dtype and x.device == weight.device


def multiplied(left: Tensor, right: Tensor) -> Tensor:
    """Multiply ``(m, k)`` by ``(k, n)``, into memory that is used again."""
    if bfloat16.serves(left, right):
        return bfloat16.multiply(left, right)
    out = memory.empty((left.shape[0], right.shape[1]), left.dtype, left.device)
    return torch.mm(left, right, out=out)


def _find() -> Any:
    """Find oneDNN's product, private to torch; None where torch has it not or it is no faster."""
    if processor_is_intels() or bfloat16.is_x86_without_avx512():
        return None
    try:
        operator = torch.ops.mkldnn._linear_pointwise
        x = torch.ones(2, 3)
        good = torch.equal(operator(x, x, None, "none", [], ""), torch.full((2, 2), 3.0))
    except (AttributeError, RuntimeError, TypeError):
        return None
    return operator if good else None


def processor_is_intels() -> bool:
    """Say whether Intel made the processor (Linux; elsewhere no is assumed)."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


_onednn = _find() if torch.backends.mkldnn.is_available() else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Do what ``torch.nn.functional.linear`` does, at the processor's rate.

    Args:
        x: Shape ``(..., k)``.
        weight: Shape ``(n, k)``.
        bias: Shape ``(n,)``.

    Returns:
        Shape ``(..., n)``, in autocast's type where it is on.
    """
    if torch.compiler.is_compiling() or native_library.is_transformed():
        return F.linear(x, weight, bias)
    kind = kind_of_products(x)
    fewest = bfloat16.FEWEST if kind == torch.bfloat16 else FEWEST
    plain = (
        x.device.type != "cpu"
        or x.numel() < fewest * max(1, x.shape[-1])
        or weight.dim() != 2
        or not weight.numel()
        or (bias is not None and bias.shape != weight.shape[:1])
    )
    if plain or not _has_own_way(x, weight, kind):
        return affine(x, weight, bias)
    with torch.autocast("cpu", enabled=False):
        found: Tensor = _Linear.apply(x.to(kind), weight, bias)  # type: ignore[no-untyped-call]
    return found


def kind_of_products(x: Tensor) -> torch.dtype:
    """Give the type that products of ``x`` are made in on a CPU: autocast's where it is on."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _has_own_way(x: Tensor, weight: Tensor, kind: torch.dtype) -> bool:
    """Say whether products of this type go another way than torch's."""
    types = {x.dtype, weight.dtype}
    if kind == torch.float32:
        return types == {torch.float32} and _onednn is not None
    casts = torch.is_autocast_enabled("cpu") and types <= {torch.float32, torch.bfloat16}
    return kind == torch.bfloat16 and (casts or types == {kind}) and bfloat16.slow()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_type = None if bias is None else bias.dtype
        return product(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = dy.reshape(-1, dy.shape[-1])
        if twice.wanted(dy):
            dx, dw = twice.gradients(_plain, (x, weight), (dy,), (for_x, for_weight))
            return dx, dw, rows.sum(0).to(ctx.bias_type) if for_bias else None
        with torch.autocast("cpu", enabled=False):
            dx = back(rows, weight.to(x.dtype)).view(x.shape) if for_x else None
            dw = across(rows, x.reshape(-1, x.shape[-1])).to(weight.dtype) if for_weight else None
            db = rows.sum(0, dtype=torch.float32).to(ctx.bias_type) if for_bias else None
        return dx, dw, db


def _plain(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight.to(x.dtype))


def back(rows: Tensor, weight: Tensor) -> Tensor:
    """Multiply ``(m, n)`` by ``(n, k)``."""
    if reads_columns(rows.dtype):
        return product(rows, weight.t().contiguous())
    return multiplied(rows, weight) if _same(rows, weight) else rows @ weight


def reads_columns(kind: torch.dtype) -> bool:
    """Say whether :func:`back` wants the columns of its weight side by side in memory."""
    return kind == torch.float32 and _onednn is not None


def across(left: Tensor, right: Tensor) -> Tensor:
    """Multiply the transpose of ``(m, n)`` by ``(m, k)``; gives float32 where it is bfloat16."""
    if bfloat16.serves(left, right):
        return bfloat16.gather(left, right)
    if not reads_columns(left.dtype):
        return left.t() @ right
    return product(left.t().contiguous(), right.t().contiguous())
