"""Attention as the formula has it, to compare with.

Letters: ``b`` documents, ``h`` heads, ``l`` tokens, ``d`` width of a head.
"""

import torch
from torch import Tensor


def attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None = None
) -> Tensor:
    """Let every token attend to every other.

    Args and result are those of :func:`longdoc.kernels.attention`, without dropout.
    """
    scores = scale * torch.einsum("bhld,bhmd->bhlm", query, key)
    if mask is not None:
        scores = scores + mask
    return torch.einsum("bhlm,bhmd->bhld", torch.softmax(scores, dim=-1), value)
