"""Matrix products at the rate the processor has, with or without a low-rank update.

PyTorch hands float32 products to MKL, which leaves AVX-512 unused on AMD processors; oneDNN, which
it has as well, is about twice as fast there, and a tenth slower on Intel's
(docs/experiment-log.md). Letters: ``m`` tokens, ``k`` inputs, ``n`` outputs, ``r`` rank.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from longdoc.kernels import memory, native_library
from longdoc.kernels.dropout import dropout
from longdoc.kernels.native_library import MergeArguments

FEWEST = 64
"""Tokens below which a product is not worth the detour."""


MERGED_ABOVE = 128
"""Tokens above which merging a low-rank update into the weight costs less than adding it
(docs/experiment-log.md)."""


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply ``(..., k)`` by the transpose of ``(n, k)``, without gradients."""
    many = x.numel() >= FEWEST * x.shape[-1]
    if many and x.dtype == torch.float32 and x.device.type == "cpu" and _onednn is not None:
        # oneDNN reads the bias without its strides.
        offset = None if bias is None else bias.expand(weight.shape[0]).to(x.dtype).contiguous()
        result: Tensor = _onednn(x, weight, offset, "none", [], "")
        return result
    if not many or bias is not None or not _same(x, weight):
        return F.linear(x, weight, bias)
    return _shaped(_multiplied(x.reshape(-1, x.shape[-1]), weight.t()), x)


def _shaped(rows: Tensor, x: Tensor) -> Tensor:
    """Give ``(m, n)`` the leading dimensions of ``x``; not a view for autograd."""
    return torch.ops.aten._unsafe_view(rows, (*x.shape[:-1], rows.shape[-1]))


def _same(x: Tensor, weight: Tensor) -> bool:
    return x.dtype == weight.dtype and x.device == weight.device


def _multiplied(left: Tensor, right: Tensor) -> Tensor:
    """Multiply ``(m, k)`` by ``(k, n)``, into memory that is used again."""
    out = memory.empty((left.shape[0], right.shape[1]), left.dtype, left.device)
    return torch.mm(left, right, out=out)


def _find() -> Any:
    """Find oneDNN's product, private to torch; None where torch has it not or it is no faster."""
    if processor_is_intels():
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
    """Do what ``torch.nn.functional.linear`` does, at oneDNN's rate in float32 on a CPU.

    Args:
        x: Shape ``(..., k)``.
        weight: Shape ``(n, k)``.
        bias: Shape ``(n,)``.

    Returns:
        Shape ``(..., n)``.
    """
    plain = (
        x.dtype != torch.float32
        or weight.dtype != torch.float32
        or (bias is not None and bias.shape != weight.shape[:1])
        or x.device.type != "cpu"
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
        or x.numel() < FEWEST * x.shape[-1]
    )
    if plain or _onednn is None:
        return F.linear(x, weight, bias)
    found: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return found


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = dy.reshape(-1, dy.shape[-1])
        with torch.autocast("cpu", enabled=False):
            return (
                _back(rows, weight).view(x.shape) if for_x else None,
                _across(rows, x.reshape(-1, x.shape[-1])) if for_weight else None,
                rows.sum(0) if for_bias else None,
            )


def _back(rows: Tensor, weight: Tensor) -> Tensor:
    """Multiply ``(m, n)`` by ``(n, k)``."""
    if rows.dtype == torch.float32 and _onednn is not None:
        return product(rows, weight.t().contiguous())
    return _multiplied(rows, weight) if _same(rows, weight) else rows @ weight


def _across(left: Tensor, right: Tensor) -> Tensor:
    """Multiply the transpose of ``(m, n)`` by ``(m, k)``."""
    if left.dtype != torch.float32 or _onednn is None:
        return left.t() @ right
    return product(left.t().contiguous(), right.t().contiguous())


def low_rank_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scaling: float,
    rate: float = 0.0,
) -> Tensor:
    """Do what a linear layer with LoRA does, without a pass over memory for the update.

    Without dropout the update of many tokens is merged into a copy of the weight; of few, or with
    dropout, it is added where the product is written.

    Args:
        x: Shape ``(..., k)``.
        weight: Shape ``(n, k)``.
        bias: Shape ``(n,)``.
        a: Shape ``(r, k)``.
        b: Shape ``(n, r)``.
        scaling: The update is multiplied by it.
        rate: Dropout on the update's input.

    Returns:
        Shape ``(..., n)``, in autocast's type where it is on.

    Source:
        hu2022lora, Eq. 3.
    """
    kind = x.dtype
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
    seed = int(torch.randint(2**62, (), device="cpu").item()) if rate else 0
    with torch.autocast("cpu", enabled=False):
        found: Tensor = _LowRank.apply(  # type: ignore[no-untyped-call]
            x.to(kind), weight, bias, a, b, scaling, rate, seed
        )
    return found


class _LowRank(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        a, b, scaling, rate, seed = rest
        ctx.numbers = (scaling, rate, seed, bias is not None)
        kind = x.dtype
        offset = None if bias is None else bias.to(kind)
        if not rate and x.numel() > MERGED_ABOVE * x.shape[-1]:
            ctx.save_for_backward(x, weight, a, b, None)
            return product(x, merged(weight, a, b, scaling, kind), offset)
        low = _narrowed(x, a, rate, seed)
        ctx.save_for_backward(x, weight, a, b, low)
        if weight.shape[0] > weight.shape[1]:
            # Beside the input, which is the narrower of the two: one product for both.
            wide = torch.cat([x.reshape(-1, x.shape[-1]), low], dim=1)
            both = torch.cat([weight.to(kind), (scaling * b).to(kind)], dim=1)
            return _shaped(product(wide, both, offset), x)
        y = product(x, weight.to(kind), offset)
        y.view(-1, y.shape[-1]).addmm_(low, b.t().to(kind), alpha=scaling)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            return _low_rank_gradients(ctx, dy)


def _low_rank_gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    """Give the gradients of a low-rank linear layer's inputs."""
    x, weight, a, b, low = ctx.saved_tensors
    scaling, rate, seed, biased = ctx.numbers
    kind = x.dtype
    rows, small_a = dy.reshape(-1, dy.shape[-1]), a.to(kind)
    low = _narrowed(x, a, 0.0, seed) if low is None else low
    down = rows @ b.to(kind)
    seen = (dropout(x, rate, seed) if rate else x).reshape(-1, x.shape[-1])
    da = scaling * (down.t() @ seen)
    del seen
    db = scaling * (rows.t() @ low)
    dx = None
    if ctx.needs_input_grad[0]:
        whole = weight.to(kind) if rate else merged(weight, a, b, scaling, kind)
        dx = _back(rows, whole)
        if rate:
            dropout(_multiplied(scaling * down, small_a), rate, seed, to=dx)
        dx = dx.view(x.shape)
    dweight = _across(rows, x.reshape(-1, x.shape[-1])) if ctx.needs_input_grad[1] else None
    dbias = rows.sum(0).float() if biased and ctx.needs_input_grad[2] else None
    if dweight is not None:
        dweight = dweight.to(weight.dtype)
    return dx, dweight, dbias, da.to(a.dtype), db.to(b.dtype), None, None, None


def _narrowed(x: Tensor, a: Tensor, rate: float, seed: int) -> Tensor:
    """Give what an update makes of its input, shape ``(m, r)``."""
    seen = dropout(x, rate, seed) if rate else x
    return seen.reshape(-1, x.shape[-1]) @ a.t().to(x.dtype)


def merged(weight: Tensor, a: Tensor, b: Tensor, scaling: float, kind: torch.dtype) -> Tensor:
    """Give a weight with its low-rank update in it, without gradients.

    Args:
        weight: Shape ``(n, k)``.
        a: Shape ``(r, k)``.
        b: Shape ``(n, r)``.
        scaling: The update is multiplied by it.
        kind: Type of the result.

    Returns:
        ``weight + scaling * b @ a``, shape ``(n, k)``.
    """
    parts = (weight, a, b)
    serves = kind in (torch.float32, torch.bfloat16) and all(
        part.device.type == "cpu" and part.dtype == torch.float32 for part in parts
    )
    if not serves or not native_library.available():
        return torch.addmm(weight, b, a, alpha=scaling).to(kind)
    weight, a, b = (part.contiguous() for part in parts)
    out = torch.empty_like(weight, dtype=kind)
    arguments = MergeArguments(
        rows=weight.shape[0], columns=weight.shape[1], rank=a.shape[0],
        half=kind == torch.bfloat16, scaling=scaling,
    )  # fmt: skip
    native_library.fill(arguments, {"weight": weight, "a": a, "b": b, "out": out})
    native_library.call("longdoc_merge", arguments)
    return out
