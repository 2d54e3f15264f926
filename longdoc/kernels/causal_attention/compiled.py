"""Causal attention through the compiled kernel of :mod:`longdoc.kernels.attention`.

Of the matrix of weights a few rows at a time are made, and of these only what is seen: over all
tokens half of them, with a window no more than it and a block. Letters as in ``reference.py``.
"""

from torch import Tensor

from longdoc.kernels.attention import compiled
from longdoc.kernels.causal_attention import reference


def serves(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Say whether the kernel takes these inputs."""
    return compiled.serves(query, key, value, None)


def causal_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int | None = None,
    starts: Tensor | None = None,
) -> Tensor:
    """Attend in one pass.

    Args and result are those of :func:`longdoc.kernels.causal_attention`; it must serve the inputs.
    """
    if starts is not None:
        return reference.one_by_one(causal_attention, query, key, value, scale, window, starts)
    length = query.shape[2]
    return compiled.attention(query, key, value, scale, window=min(window or length, length))
