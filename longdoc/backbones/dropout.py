"""Dropout in one pass over memory each way, which keeps no mask."""

from typing import Any

import torch
from torch import Tensor, nn

from longdoc.kernels.dropout import dropout


class _Dropout(torch.autograd.Function):
    """Drops the same elements of the gradient as of the input: both follow from the seed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float, seed: int) -> Tensor:
        ctx.rate, ctx.seed = rate, seed
        return dropout(x, rate, seed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return dropout(gradients[0], ctx.rate, ctx.seed), None, None


def drop(x: Tensor, rate: float) -> Tensor:
    """Set a share of the elements to zero and scale the others; torch's random numbers say which.

    Args:
        x: Any shape.
        rate: In 0..1.
    """
    known = x.dtype in (torch.float32, torch.bfloat16) and x.device.type == "cpu"
    if rate in (0.0, 1.0) or not known or torch.compiler.is_compiling():
        return nn.functional.dropout(x, rate)
    result: Tensor = _Dropout.apply(x, rate, int(torch.randint(2**62, ())))  # type: ignore[no-untyped-call]
    return result


class FastDropout(nn.Dropout):
    """``nn.Dropout`` on longdoc's kernel; the choice follows torch's own random numbers."""

    def forward(self, input: Tensor) -> Tensor:  # torch's own name
        """Drop elements of any shape while training."""
        return drop(input, self.p) if self.training else input


def use_fast_dropouts(model: nn.Module) -> nn.Module:
    """Let every plain dropout run on longdoc's kernel."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = FastDropout
    return model
