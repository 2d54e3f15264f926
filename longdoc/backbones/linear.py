"""Linear layers at the rate the processor has, under the name and with the weights they had."""

from torch import Tensor, nn

from longdoc.kernels import linear


class FastLinear(nn.Linear):
    """``nn.Linear`` on :func:`longdoc.kernels.linear.linear`."""

    def forward(self, input: Tensor) -> Tensor:  # torch's own name
        """Multiply; shapes are those of ``nn.Linear``."""
        return linear.linear(input, self.weight, self.bias)


def use_fast_linears(model: nn.Module) -> nn.Module:
    """Let every plain linear layer run at the processor's rate; weights stay as they are."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = FastLinear
    return model
