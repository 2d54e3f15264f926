"""GELU on longdoc's kernel."""

from torch import Tensor, nn

from longdoc.kernels import gelu


class FastGelu(nn.Module):
    """GELU, exact or by its tanh, in one pass over memory each way."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:  # torch's own name
        """Give GELU of each element, of any shape."""
        return gelu(input, self.approximate)

    def extra_repr(self) -> str:
        """Say which, as ``nn.GELU`` does."""
        return f"approximate={self.approximate!r}"
