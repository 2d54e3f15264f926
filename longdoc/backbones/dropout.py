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


class FastDropout(nn.Dropout):
    """``nn.Dropout`` on longdoc's kernel; the choice follows torch's own random numbers."""

    def forward(self, input: Tensor) -> Tensor:  # torch's own name
        """Drop elements of any shape while training."""
        known = input.dtype in (torch.float32, torch.bfloat16) and input.device.type == "cpu"
        if not self.training or self.p in (0.0, 1.0) or not known or torch.compiler.is_compiling():
            return super().forward(input)
        seed = int(torch.randint(2**62, ()))
        result: Tensor = _Dropout.apply(input, self.p, seed)  # type: ignore[no-untyped-call]
        return result


def use_fast_dropouts(model: nn.Module) -> nn.Module:
    """Let every plain dropout run on longdoc's kernel."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = FastDropout
    return model
