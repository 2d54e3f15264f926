"""Dropout whose choice can be made again from a seed, so that no mask is kept."""

from typing import Any

import torch
from torch import Tensor, nn

from longdoc.kernels import memory, native_library
from longdoc.kernels.arguments import DropoutArguments


def dropout(x: Tensor, rate: float, seed: int, to: Tensor | None = None) -> Tensor:
    """Set a share of the elements to zero and scale the others, without gradients.

    Args:
        x: Any shape, float32 or bfloat16 on a CPU where the compiled kernels serve it.
        rate: Share of the elements, in 0..1, 1 excluded.
        seed: The same seed makes the same choice, whatever the number of threads.
        to: A contiguous tensor of the shape and type of ``x`` that the result is added to.

    Returns:
        The shape and type of ``x``; what stays is divided by ``1 - rate``, as torch does. ``to``
        itself where it is given.
    """
    check_rate(rate)
    if to is not None and (to.shape, to.dtype, to.is_contiguous()) != (x.shape, x.dtype, True):
        message = f"to must be contiguous, of shape {tuple(x.shape)} and {x.dtype}"
        raise ValueError(message)
    serves = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)
    if not native_library.available() or not serves:
        generator = torch.Generator(x.device).manual_seed(seed)
        stays = torch.rand(x.shape, generator=generator, device=x.device) >= rate
        dropped = x * stays.to(x.dtype) / (1 - rate)
        return dropped if to is None else to.add_(dropped)
    x = x.contiguous()
    out = memory.empty(x.shape, x.dtype, x.device) if to is None else to
    arguments = DropoutArguments(
        count=x.numel(), half=x.dtype == torch.bfloat16, seed=seed, add=to is not None, rate=rate
    )
    native_library.fill(arguments, {"x": x, "out": out})
    native_library.call("longdoc_dropout", arguments)
    return out


class _Dropout(torch.autograd.Function):
    """Drops the same elements of the gradient as of the input: both follow from the seed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float, seed: int) -> Tensor:
        ctx.rate, ctx.seed = rate, seed
        return dropout(x, rate, seed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # By itself again: it is linear, so that a gradient of the gradient is the same once more.
        found: Tensor = _Dropout.apply(gradients[0], ctx.rate, ctx.seed)  # type: ignore[no-untyped-call]
        return found, None, None


def drop(x: Tensor, rate: float) -> Tensor:
    """Set a share of the elements to zero and scale the others; torch's random numbers say which.

    Args:
        x: Any shape.
        rate: In 0..1.
    """
    known = x.dtype in (torch.float32, torch.bfloat16) and x.device.type == "cpu"
    seen = torch.compiler.is_compiling() or native_library.is_transformed()
    if rate in (0.0, 1.0) or not known or seen:
        return nn.functional.dropout(x, rate)
    return drop_by(x, rate, int(torch.randint(2**62, (), device="cpu")))


def check_rate(rate: float) -> None:
    """Refuse a share that is none.

    Raises:
        ValueError: It is below 0, 1 or above, or no number.
    """
    if not 0 <= rate < 1:
        message = f"rate must be in 0..1, 1 excluded; got {rate}"
        raise ValueError(message)


def drop_by(x: Tensor, rate: float, seed: int) -> Tensor:
    """Do what :func:`dropout` does, with gradients of any order."""
    result: Tensor = _Dropout.apply(x, rate, seed)  # type: ignore[no-untyped-call]
    return result
