"""Which root-mean-square normalisation runs, and why."""

import torch
from torch import Tensor

from longdoc.kernels import native_library
from longdoc.kernels.documents import check_numbers
from longdoc.kernels.rms_norm import compiled, reference


def rms_norm(x: Tensor, weight: Tensor, eps: float, kind: torch.dtype | None = None) -> Tensor:
    """Divide each token by its root mean square, and multiply by a weight.

    Args:
        x: Shape ``(..., d)``.
        weight: Shape ``(d,)``.
        eps: Added to the mean square.
        kind: Type of the result; that of ``x`` without.

    Returns:
        Shape ``(..., d)``.

    Raises:
        ValueError: The weight does not fit, or one of them holds whole numbers.
    """
    if weight.shape != x.shape[-1:]:
        message = f"weight must have shape ({x.shape[-1]},); got {tuple(weight.shape)}"
        raise ValueError(message)
    check_numbers(x=x, weight=weight)
    serves = (
        native_library.available()
        and x.device.type == "cpu" == weight.device.type
        and x.dtype != torch.float64
    )
    if serves:
        return compiled.rms_norm(x, weight, eps, kind)
    return reference.rms_norm(x, weight, eps).to(kind or x.dtype)
