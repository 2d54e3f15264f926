"""A linear layer with a low-rank update, without a pass over memory for the update.

Letters: ``m`` tokens, ``k`` inputs, ``n`` outputs, ``r`` rank.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from longdoc.kernels import bfloat16, native_library, twice
from longdoc.kernels.arguments import LowRankArguments, MergeArguments
from longdoc.kernels.dropout import check_rate, drop_by, dropout
from longdoc.kernels.linear import (
    across,
    back,
    kind_of_products,
    multiplied,
    product,
    reads_columns,
    shaped,
)

MERGED_ABOVE = 128
"""Tokens above which merging a low-rank update into the weight costs less than adding it
(docs/experiment-log.md)."""
PARTS, BLOCK = 16, 32
"""At most so many parts of the tokens make their own share of the factors' gradients, in blocks of
so many tokens: a decision of the project. By shapes alone, so that sums do not depend on the number
of threads."""
FEWEST = 128
"""Tokens from which on one kernel takes the place of torch's four products: a decision of the
project. On two threads of an AMD it gains from somewhere between 256 and 2,048 tokens on
(benchmarks/pieces.py)."""


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

    Raises:
        ValueError: Shapes do not fit, or the rate is not in 0..1, 1 excluded.

    Source:
        hu2022lora, Eq. 3.
    """
    _check(x.shape[-1], weight, a, b)
    check_rate(rate)
    kind = kind_of_products(x)
    if native_library.is_transformed():
        seen = F.dropout(x, rate) if rate else x
        return F.linear(x, weight, bias) + scaling * F.linear(F.linear(seen, a), b)
    seed = int(torch.randint(2**62, (), device="cpu").item()) if rate else 0
    with torch.autocast("cpu", enabled=False):
        found: Tensor = _LowRank.apply(  # type: ignore[no-untyped-call]
            x.to(kind), weight, bias, a, b, scaling, rate, seed
        )
    return found


def _check(inputs: int, weight: Tensor, a: Tensor, b: Tensor) -> None:
    rank = a.shape[0] if a.dim() == 2 else 0
    shapes = (tuple(weight.shape), tuple(a.shape), tuple(b.shape))
    outputs = weight.shape[0]
    if shapes != ((outputs, inputs), (rank, inputs), (outputs, rank)):
        message = f"weight (n, {inputs}), a (r, {inputs}) and b (n, r) are needed; got {shapes}"
        raise ValueError(message)


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
            return shaped(product(wide, both, offset), x)
        y = product(x, weight.to(kind), offset)
        rows, wide = y.view(-1, y.shape[-1]), b.t().to(kind)
        if bfloat16.serves(rows):
            bfloat16.add(rows, low, wide, scaling)
        else:
            rows.addmm_(low, wide, alpha=scaling)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        if twice.wanted(dy):
            return _followed_back(ctx, dy)
        with torch.autocast("cpu", enabled=False):
            return _gradients(ctx, dy)


def _followed_back(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    """Give the same gradients such that they can be differentiated again."""
    x, weight, a, b, _ = ctx.saved_tensors
    scaling, rate, seed, biased = ctx.numbers
    for_x, for_weight, for_bias, *for_factors = ctx.needs_input_grad[:5]

    def plain(x: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
        seen = drop_by(x, rate, seed) if rate else x
        low = F.linear(seen, a.to(x.dtype))
        return F.linear(x, weight.to(x.dtype)) + scaling * F.linear(low, b.to(x.dtype))

    dx, dweight, da, db = twice.gradients(
        plain, (x, weight, a, b), (dy,), (for_x, for_weight, *for_factors)
    )
    dbias = dy.reshape(-1, dy.shape[-1]).sum(0) if biased and for_bias else None
    return dx, dweight, dbias, da, db, None, None, None


def _gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    """Give the gradients of a low-rank linear layer's inputs."""
    x, weight, a, b, low = ctx.saved_tensors
    scaling, rate, seed, biased = ctx.numbers
    kind = x.dtype
    rows, seen = (t.reshape(-1, t.shape[-1]) for t in (dy, dropout(x, rate, seed) if rate else x))
    da, db, down = factor_gradients(seen, rows, a, b, scaling, low)
    del seen
    dx = None
    if ctx.needs_input_grad[0]:
        whole = (
            weight.to(kind) if rate else merged(weight, a, b, scaling, kind, reads_columns(kind))
        )
        dx = back(rows, whole)
        if rate:
            dropout(multiplied((scaling * down).to(kind), a.to(kind)), rate, seed, to=dx)
        dx = dx.view(x.shape)
    dweight = across(rows, x.reshape(-1, x.shape[-1])) if ctx.needs_input_grad[1] else None
    dbias = rows.sum(0, dtype=torch.float32) if biased and ctx.needs_input_grad[2] else None
    if dweight is not None:
        dweight = dweight.to(weight.dtype)
    return dx, dweight, dbias, da.to(a.dtype), db.to(b.dtype), None, None, None


def factor_gradients(
    x: Tensor, dy: Tensor, a: Tensor, b: Tensor, scaling: float, low: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of a low-rank update's factors, reading every token once.

    (On CPUs; where they multiply bfloat16 themselves, their own products are faster for it.)

    Args:
        x: What the update was made from, shape ``(m, k)``.
        dy: Gradient of the layer's output, shape ``(m, n)``.
        a: Shape ``(r, k)``.
        b: Shape ``(n, r)``.
        scaling: The update is multiplied by it.
        low: ``x @ a.t()``, if it is known; the kernel makes it anew.

    Returns:
        The gradients of ``a`` and ``b``, and ``dy @ b``.
    """
    if len(x) >= FEWEST and _kernel_serves(x, dy, a, b) and native_library.available():
        return _compiled_gradients(x, dy, a, b, scaling)
    low = multiplied(x, a.t().to(x.dtype)) if low is None else low
    down = multiplied(dy, b.to(dy.dtype))
    return scaling * across(down, x), scaling * across(dy, low), down


def _kernel_serves(x: Tensor, dy: Tensor, a: Tensor, b: Tensor) -> bool:
    """Say whether the kernel is of these types, faster than torch's products, and not counted."""
    tokens, factors = {x.dtype, dy.dtype}, {a.dtype, b.dtype}
    on_cpu = all(part.device.type == "cpu" for part in (x, dy, a, b))
    known = tokens == {torch.float32} or bfloat16.serves(x, dy)
    return on_cpu and known and factors == {torch.float32} and not native_library.is_counted()


def _compiled_gradients(
    x: Tensor, dy: Tensor, a: Tensor, b: Tensor, scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    x, dy = (part if part.stride(1) == 1 else part.contiguous() for part in (x, dy))
    tokens, rank = len(x), len(a)
    part = -(-tokens // (PARTS * BLOCK)) * BLOCK
    parts = -(-tokens // part)
    arguments = LowRankArguments(
        tokens=tokens, inputs=x.shape[1], outputs=dy.shape[1], rank=rank, part=part,
        half=x.dtype == torch.bfloat16, x_t=x.stride(0), dy_t=dy.stride(0),
    )  # fmt: skip
    made = {
        "da": a.new_empty(parts, rank, x.shape[1]),
        "db": a.new_empty(parts, rank, dy.shape[1]),
        "down": a.new_empty(tokens, rank),
    }
    given = {"x": x, "dy": dy, "a": a.contiguous(), "b": b.t().contiguous()}
    native_library.fill(arguments, {**given, **made})
    native_library.call("longdoc_low_rank", arguments)
    da, db = (scaling * made[name].sum(0) for name in ("da", "db"))
    return da, db.t(), made["down"]


def _narrowed(x: Tensor, a: Tensor, rate: float, seed: int) -> Tensor:
    """Give what an update makes of its input, shape ``(m, r)``."""
    seen = dropout(x, rate, seed) if rate else x
    return multiplied(seen.reshape(-1, x.shape[-1]), a.t().to(x.dtype))


def merged(
    weight: Tensor,
    a: Tensor,
    b: Tensor,
    scaling: float,
    kind: torch.dtype,
    by_columns: bool = False,
) -> Tensor:
    """Give a weight with its low-rank update in it, without gradients.

    Args:
        weight: Shape ``(n, k)``.
        a: Shape ``(r, k)``.
        b: Shape ``(n, r)``.
        scaling: The update is multiplied by it.
        kind: Type of the result.
        by_columns: Whether columns lie side by side in memory (float32 only).

    Returns:
        ``weight + scaling * b @ a``, shape ``(n, k)``.

    Raises:
        ValueError: Shapes do not fit.
    """
    _check(weight.shape[1], weight, a, b)
    parts = (weight, a, b)
    serves = kind in (torch.float32, torch.bfloat16) and all(
        part.device.type == "cpu" and part.dtype == torch.float32 for part in parts
    )
    if not serves or not native_library.available():
        return torch.addmm(weight, b, a, alpha=scaling).to(kind)
    weight, a, b = (part.contiguous() for part in parts)
    by_columns = by_columns and kind == torch.float32
    shape = weight.shape[::-1] if by_columns else weight.shape
    out = torch.empty(shape, dtype=kind, device=weight.device)
    arguments = MergeArguments(
        rows=weight.shape[0], columns=weight.shape[1], rank=a.shape[0],
        half=kind == torch.bfloat16, transposed=by_columns, scaling=scaling,
    )  # fmt: skip
    native_library.fill(arguments, {"weight": weight, "a": a, "b": b, "out": out})
    native_library.call("longdoc_merge", arguments)
    return out.t() if by_columns else out
