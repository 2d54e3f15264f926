"""Causal attention through the compiled kernel of :mod:`longdoc.kernels.attention`.

Of the matrix of weights a few rows at a time are made, and of these only what is seen: over all
tokens half of them, with a window no more than it and a block. Both directions are operators of
``torch.library`` as well, which ``torch.compile`` and export take as they are, at any length.
Letters as in ``reference.py``; within the operators tensors are ``(b, l, h, d)``, contiguous.
"""

from typing import Any

import torch
from torch import Tensor

from longdoc.kernels import native_library
from longdoc.kernels.attention import compiled
from longdoc.kernels.causal_attention import reference


def serves(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Say whether the kernel takes these inputs."""
    return compiled.serves(query, key, value, None)


def causal_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int | None = None,
    starts: Tensor | None = None,
    real: Tensor | None = None,
) -> Tensor:
    """Attend in one pass.

    Args and result are those of :func:`longdoc.kernels.causal_attention`; it must serve the inputs.
    """
    if starts is not None:
        return reference.one_by_one(causal_attention, query, key, value, scale, window, starts)
    length = query.shape[2]
    if torch.compiler.is_compiling():
        parts = [part.transpose(1, 2).contiguous() for part in (query, key, value)]
        # Not the smaller of the two, which would be asked of lengths that a graph leaves open.
        found: Tensor = attend(*parts, real, scale, length if window is None else window)[0]
        return found.transpose(1, 2)
    mask = None if real is None else reference.unreal(real, torch.float32)
    return compiled.attention(query, key, value, scale, mask, window=min(window or length, length))


@torch.library.custom_op("longdoc::causal_attention_forward", mutates_args=(), device_types="cpu")
@native_library.without_tangents
def attend(
    query: Tensor, key: Tensor, value: Tensor, real: Tensor | None, scale: float, window: int
) -> tuple[Tensor, Tensor]:
    """Attend; gives the output, and what the way back needs."""
    parts = _checked(query, key, value, real, window)
    return compiled.forward(parts, *_numbers(query, real, scale, window))


@attend.register_fake
def _made_forward(query: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    kept = query.new_empty(compiled.kept_shape(query), dtype=torch.float32)
    return query.new_empty(query.shape), kept


@torch.library.custom_op("longdoc::causal_attention_backward", mutates_args=(), device_types="cpu")
def go_back(
    dout: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    real: Tensor | None,
    kept: Tensor,
    scale: float,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of query, key and value."""
    parts = _checked(query, key, value, real, window)
    wanted = compiled.kept_shape(query)
    if tuple(kept.shape) != wanted or kept.dtype != torch.float32 or not kept.is_contiguous():
        message = f"kept must be contiguous, float32, {wanted}; got {kept.dtype}, {kept.shape}"
        raise ValueError(message)
    if (dout.shape, dout.dtype) != (query.shape, query.dtype):
        message = (
            f"dout must be as query, {query.dtype}, {query.shape}; got {dout.dtype}, {dout.shape}"
        )
        raise ValueError(message)
    mask, *numbers = _numbers(query, real, scale, window)
    dq, dk, dv = compiled.backward(dout, parts, mask, kept, *numbers)
    return dq, dk, dv


@go_back.register_fake
def _made_backward(
    dout: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (part.new_empty(part.shape) for part in (query, key, value))
    return dq, dk, dv


def _numbers(query: Tensor, real: Tensor | None, scale: float, window: int) -> tuple[Any, ...]:
    """Give mask, scale, rate, seed and window as :mod:`longdoc.kernels.attention` takes them."""
    length = query.shape[1]
    mask = None
    if real is not None:
        mask = compiled.laid_out(reference.unreal(real, torch.float32), len(query), length)
    return mask, scale, 0.0, 0, min(window, length)


def _checked(
    query: Tensor, key: Tensor, value: Tensor, real: Tensor | None, window: int
) -> list[Tensor]:
    """Refuse what the kernel would read beyond; gives the three contiguous."""
    parts = (query, key, value)
    alike = all((part.shape, part.dtype) == (query.shape, query.dtype) for part in parts)
    if query.dim() != 4 or 0 in query.shape or not alike or window < 1:
        message = (
            "query, key and value must have the same type and shape (b, l, h, d), none of them 0, "
            f"and the window be at least 1; got {[tuple(part.shape) for part in parts]}, {window}"
        )
        raise ValueError(message)
    if query.dtype not in (torch.float32, torch.bfloat16):
        message = f"query must be float32 or bfloat16; got {query.dtype}"
        raise ValueError(message)
    if real is not None and (real.shape != query.shape[:2] or real.dtype != torch.bool):
        message = f"real must have shape (b, l), true and false; got {real.dtype}, {real.shape}"
        raise ValueError(message)
    return [part.contiguous() for part in parts]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *parts, ctx.scale, ctx.window = inputs
    ctx.save_for_backward(*parts, output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dout: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if dout is None:
        return (None,) * 6
    found = go_back(dout, *ctx.saved_tensors, ctx.scale, ctx.window)
    return (*found, None, None, None)


attend.register_autograd(_backward, setup_context=_setup)
