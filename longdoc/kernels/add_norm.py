"""What a layer makes, dropped in part and added to its input, then each token normalised.

So every half of a BERT layer ends. One pass over memory each way takes the place of three. Letters:
``d`` channels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from longdoc.kernels import memory, native_library, twice
from longdoc.kernels.arguments import AddNormArguments
from longdoc.kernels.dropout import check_rate, drop, drop_by
from longdoc.kernels.native_library import TILE


def add_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, rate: float = 0.0
) -> Tensor:
    """Give ``layer_norm(dropout(x) + residual)``.

    Args:
        x: What the layer made, shape ``(..., d)``. Our kernel takes float32 and bfloat16 on a CPU,
            where the others are float32; torch's functions the rest.
        residual: What is added, of the shape of ``x``.
        weight: Of the normalisation, shape ``(d,)``.
        bias: Of the normalisation, shape ``(d,)``.
        eps: Added to the variance.
        rate: Share of the elements of ``x`` that are set to zero, in 0..1; torch's random numbers
            say which.

    Returns:
        The shape of ``x``, in float32 where our kernel runs.

    Raises:
        ValueError: The rate is out of range.
    """
    if not _serves(x, residual, weight, bias) or rate == 1.0:
        dropped = drop(x, rate) if rate else x
        return F.layer_norm(dropped + residual, weight.shape, weight, bias, eps)
    check_rate(rate)
    seed = int(torch.randint(2**62, (), device="cpu")) if rate else 0
    parts = (part.contiguous() for part in (x, residual, weight, bias))
    found: tuple[Tensor, Tensor] = _AddNorm.apply(*parts, (eps, rate, seed))  # type: ignore[no-untyped-call]
    return found[0]


def _serves(x: Tensor, *others: Tensor) -> bool:
    residual, weight, bias = others
    return (
        x.dtype in (torch.float32, torch.bfloat16)
        and all(part.dtype == torch.float32 for part in others)
        and all(part.device.type == "cpu" for part in (x, *others))
        and x.shape == residual.shape
        and weight.shape == bias.shape == x.shape[-1:]
        and native_library.available()
        and not torch.compiler.is_compiling()
    )


class _AddNorm(torch.autograd.Function):
    """Gives the sum as well: a gradient of the gradient comes back through it."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor,
        settings: tuple[float, float, int],
    ) -> tuple[Tensor, Tensor]:
        arguments = _arguments(x, settings)
        total, out = (memory.empty(x.shape, torch.float32, x.device) for _ in range(2))
        kept = residual.new_empty(arguments.tokens, 2)
        tensors = {
            "x": x, "residual": residual, "weight": weight, "bias": bias,
            "sum": total, "kept": kept, "out": out,
        }  # fmt: skip
        native_library.fill(arguments, tensors)
        native_library.call("longdoc_add_norm_forward", arguments)
        ctx.save_for_backward(total, kept, weight)
        ctx.settings, ctx.kind = settings, x.dtype
        ctx.set_materialize_grads(False)
        return out, total

    @staticmethod
    def backward(ctx: Any, dout: Tensor | None, dtotal: Tensor | None) -> tuple[Any, ...]:
        total, kept, weight = ctx.saved_tensors
        if twice.wanted(dout, dtotal) or dout is None or dtotal is not None:
            return _followed_back(ctx, total, weight, dout, dtotal)
        dout = dout.contiguous()
        dx = memory.empty(total.shape, ctx.kind, total.device)
        dresidual = memory.empty(total.shape, torch.float32, total.device)
        arguments = _arguments(dx, ctx.settings)
        parts = None
        if any(ctx.needs_input_grad[2:4]):
            parts = total.new_empty(2, -(-arguments.tokens // TILE), arguments.d)
        tensors = {
            "sum": total, "kept": kept, "weight": weight, "dout": dout, "dx": dx,
            "dresidual": dresidual,
            "dweight": None if parts is None else parts[0],
            "dbias": None if parts is None else parts[1],
        }  # fmt: skip
        native_library.fill(arguments, tensors)
        native_library.call("longdoc_add_norm_backward", arguments)
        dweight, dbias = (None, None) if parts is None else parts.sum(1)
        return dx, dresidual, dweight, dbias, None


def _followed_back(
    ctx: Any, total: Tensor, weight: Tensor, dout: Tensor | None, dtotal: Tensor | None
) -> tuple[Any, ...]:
    """Go back in operations that torch differentiates, also from a gradient of the sum."""
    eps, rate, seed = ctx.settings
    needed = (True, ctx.needs_input_grad[2])
    dsum, dweight = twice.gradients(
        lambda x, weight: F.layer_norm(x, weight.shape, weight, None, eps),
        (total, weight), (dout,), needed,
    )  # fmt: skip
    parts = [part for part in (dsum, dtotal) if part is not None]
    if not parts:
        return (None,) * 5
    dresidual = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    dx = drop_by(dresidual, rate, seed) if rate else dresidual
    dbias = None if dout is None else dout.reshape(-1, dout.shape[-1]).sum(0)
    return dx.to(ctx.kind), dresidual, dweight, dbias, None


def _arguments(x: Tensor, settings: tuple[float, float, int]) -> AddNormArguments:
    eps, rate, seed = settings
    d = x.shape[-1]
    return AddNormArguments(
        tokens=x.numel() // d, d=d, half=x.dtype == torch.bfloat16, seed=seed, eps=eps, rate=rate
    )
