"""Attention through the compiled kernel: the matrix of its weights is nowhere in memory.

Both ways a few of its rows at a time are made in the cache, in float32; on a processor with AMX
bfloat16 inputs are multiplied in tiles, and weights and their gradients are rounded to bfloat16 for
the next product. For the way back only a row's largest score and sum are kept. Dropout follows from
a seed and is made again. Letters as in ``reference.py``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from longdoc.kernels import memory, native_library
from longdoc.kernels.native_library import AttentionArguments


def serves(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Say whether the kernel takes these inputs; the mask may not differ between heads."""
    parts = (query, key, value)
    alike = all(
        (part.shape, part.dtype, part.device) == (query.shape, query.dtype, query.device)
        for part in parts
    )
    masked = mask is not None and (mask.requires_grad or mask.shape[1] != 1)
    return (
        alike
        and not masked
        and query.device.type == "cpu"
        and query.dtype in (torch.float32, torch.bfloat16)
        and native_library.available()
        and not torch.compiler.is_compiling()
    )


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    mask: Tensor | None = None,
    rate: float = 0.0,
    window: int = 0,
) -> Tensor:
    """Attend in one pass.

    Args and result are those of :func:`longdoc.kernels.attention`; it must serve the inputs. With
    a window a token attends to as many of the last tokens, itself among them; with 0 to all.
    """
    seed = int(torch.randint(2**62, (), device="cpu")) if rate else 0
    if mask is not None:
        b, _, length, _ = query.shape
        # The kernel reads a row side by side; rows and documents may share one.
        mask = mask.float().expand(-1, 1, -1, length)
        mask = mask if mask.stride(3) == 1 else mask.contiguous()
        mask = mask.expand(b, 1, length, length)
    parts = (part.transpose(1, 2) for part in (query, key, value))
    found: Tensor = _Attention.apply(*parts, mask, scale, rate, seed, window)  # type: ignore[no-untyped-call]
    return found.transpose(1, 2)


class _Attention(torch.autograd.Function):
    """Inputs, output and gradients have shape ``(b, l, h, d)``, as projections leave them."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
        parts = tuple(part.contiguous() for part in (query, key, value))
        b, length, heads, _ = query.shape
        out = memory.empty(query.shape, query.dtype, query.device)
        kept = torch.empty((b, heads, length, 2), dtype=torch.float32, device=query.device)
        mask, *ctx.numbers = rest
        ctx.save_for_backward(*parts, mask, kept)
        arguments = _arguments(parts, mask, *ctx.numbers)
        native_library.fill(arguments, {"out": out, "kept": kept})
        native_library.call("longdoc_attention_forward", arguments)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        *parts, mask, kept = ctx.saved_tensors
        dout = dout.contiguous()
        made = [memory.empty(dout.shape, dout.dtype, dout.device) for _ in parts]
        arguments = _arguments(parts, mask, *ctx.numbers)
        native_library.fill(arguments, {"dout": dout, "kept": kept})
        native_library.fill(arguments, dict(zip(("dq", "dk", "dv"), made, strict=True)))
        native_library.call("longdoc_attention_backward", arguments)
        return (*made, *[None] * 5)


def _arguments(
    parts: Sequence[Tensor], mask: Tensor | None, scale: float, rate: float, seed: int, window: int
) -> AttentionArguments:
    b, length, heads, width = parts[0].shape
    arguments = AttentionArguments(
        documents=b, heads=heads, tokens=length, width=width, scale=scale, rate=rate, seed=seed,
        half=parts[0].dtype == torch.bfloat16, window=window,
    )  # fmt: skip
    native_library.fill(arguments, dict(zip("qkv", parts, strict=True)))
    if mask is not None:
        arguments.mask_b, arguments.mask_t = mask.stride(0), mask.stride(2)
        native_library.fill(arguments, {"mask": mask})
    return arguments
