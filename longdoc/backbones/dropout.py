"""Dropout in one pass over memory each way, which keeps no mask."""

from torch import Tensor, nn

from longdoc.kernels.dropout import drop


class FastDropout(nn.Dropout):
    """``nn.Dropout`` on longdoc's kernel; the choice follows torch's own random numbers."""

    def forward(self, input: Tensor) -> Tensor:  # torch's own name
        """Drop elements of any shape while training."""
        return drop(input, self.p) if self.training else input


def use_fast_dropouts(model: nn.Module) -> nn.Module:
    """Let every plain dropout run on longdoc's kernel."""
    for module in model.modules():
        if type(module) is nn.Dropout and not module.inplace:
            module.__class__ = FastDropout
    return model
