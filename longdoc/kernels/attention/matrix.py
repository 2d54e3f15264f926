"""Attention that keeps the matrix of its weights, in the type of its inputs.

transformers' eager path takes the same products, but under autocast widens the matrix to float32
and narrows it again on either side of the softmax, and drops elements of it with torch's random
numbers. What that costs: docs/experiment-log.md.
"""

import torch
from torch import Tensor

from longdoc.kernels.dropout import drop


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    mask: Tensor | None = None,
    rate: float = 0.0,
) -> Tensor:
    """Attend, with tensor operations.

    Args and result are those of :func:`longdoc.kernels.attention`.
    """
    with torch.autocast(query.device.type, enabled=False):
        scores = torch.matmul(query * scale, key.transpose(2, 3))
        if mask is not None:
            # float32's lowest number is minus infinity in bfloat16, and a row of these alone NaN.
            lowest = torch.finfo(scores.dtype).min
            scores += mask.to(scores.dtype).clamp(min=lowest)
        weights = torch.softmax(scores, dim=-1)
        if rate:
            weights = drop(weights, rate)
        return torch.matmul(weights, value)
