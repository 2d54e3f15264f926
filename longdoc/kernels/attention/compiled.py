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
from torch.nn import functional as F

from longdoc.kernels import memory, native_library, twice
from longdoc.kernels.arguments import AttentionArguments
from longdoc.kernels.attention import followed


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
        mask = laid_out(mask, query.shape[0], query.shape[2])
    parts = (part.transpose(1, 2).contiguous() for part in (query, key, value))
    found: Tensor = _Attention.apply(*parts, mask, scale, rate, seed, window)  # type: ignore[no-untyped-call]
    return found.transpose(1, 2)


def laid_out(mask: Tensor, b: int, length: int) -> Tensor:
    """Lay a mask out as the kernel reads it: a row side by side, rows and documents may share one.

    Args:
        mask: Shape ``(b or 1, 1, l or 1, l or 1)``.
        b: Documents.
        length: Tokens.
    """
    mask = mask.float().expand(-1, 1, -1, length)
    mask = mask if mask.stride(3) == 1 else mask.contiguous()
    return mask.expand(b, 1, length, length)


class _Attention(torch.autograd.Function):
    """Inputs, output and gradients are ``(b, l, h, d)``, as projections leave them, contiguous."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
        parts = (query, key, value)
        mask, *ctx.numbers = rest
        out, kept = forward(parts, mask, *ctx.numbers)
        ctx.save_for_backward(*parts, mask, kept)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        *parts, mask, kept = ctx.saved_tensors
        if twice.wanted(dout):
            scale, rate, seed, window = ctx.numbers
            stays = _chosen(parts[0], rate, seed) if rate else None
            found = followed.gradients(
                parts, dout, ctx.needs_input_grad[:3], mask, scale, window, stays, rate
            )
            return (*found, *[None] * 5)
        return (*backward(dout, parts, mask, kept, *ctx.numbers), *[None] * 5)


def forward(parts: Sequence[Tensor], mask: Tensor | None, *numbers: Any) -> tuple[Tensor, Tensor]:
    """Attend, without gradients.

    Args:
        parts: Query, key and value, each ``(b, l, h, d)``, contiguous.
        mask: Shape ``(b, 1, l, l)``, float32, a row's numbers side by side.
        *numbers: Scale, rate, seed and window.

    Returns:
        The output ``(b, l, h, d)``, and every row's largest score and sum, see :func:`kept_shape`.
    """
    out = memory.empty(parts[0].shape, parts[0].dtype, parts[0].device)
    kept = torch.empty(kept_shape(parts[0]), dtype=torch.float32, device=out.device)
    arguments = _arguments(parts, mask, *numbers)
    native_library.fill(arguments, {"out": out, "kept": kept})
    native_library.call("longdoc_attention_forward", arguments)
    return out, kept


def backward(
    dout: Tensor, parts: Sequence[Tensor], mask: Tensor | None, kept: Tensor, *numbers: Any
) -> list[Tensor]:
    """Go back: gives the gradients of query, key and value.

    Args:
        dout: Gradient of the output, its shape and type.
        parts: As :func:`forward` had them.
        mask: As there.
        kept: As it gave them.
        *numbers: As there.
    """
    dout = dout.contiguous()
    made = [memory.empty(dout.shape, dout.dtype, dout.device) for _ in parts]
    arguments = _arguments(parts, mask, *numbers)
    native_library.fill(arguments, {"dout": dout, "kept": kept})
    native_library.fill(arguments, dict(zip(("dq", "dk", "dv"), made, strict=True)))
    native_library.call("longdoc_attention_backward", arguments)
    return made


def kept_shape(query: Tensor) -> tuple[int, ...]:
    """Give the shape of what is kept for the way back, ``(b, h, l, 2)``."""
    b, length, heads, _ = query.shape
    return b, heads, length, 2


def _chosen(query: Tensor, rate: float, seed: int) -> Tensor:
    """Say which weights dropout leaves, ``(b, h, l, l)``: what comes through of ones among values.

    Where scores are all the same no weight is zero by itself.
    """
    b, length, heads, d = query.shape
    even = torch.zeros((b, length, heads, d), dtype=torch.float32, device=query.device)
    stays = []
    for columns in torch.eye(length, device=query.device).split(d, dim=1):
        ones = F.pad(columns, (0, d - columns.shape[1]))[None, :, None].expand(even.shape)
        out = forward((even, even, ones.contiguous()), None, 1.0, rate, seed, 0)[0]
        stays.append(out[..., : columns.shape[1]] != 0)
    return torch.cat(stays, dim=3).transpose(1, 2)


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
