"""Root-mean-square normalisation as it is defined."""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divide each token by its root mean square.

    Args and result are those of :func:`longdoc.kernels.rms_norm`.
    """
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    wide = x.to(kind)
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return (weight.to(kind) * (wide * scale)).to(x.dtype)
