"""Which attention runs, and why: the compiled one where it can, else tensors."""

import torch
from torch import Tensor

from longdoc.kernels.attention import compiled, matrix
from longdoc.kernels.dropout import check_rate


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    mask: Tensor | None = None,
    rate: float = 0.0,
) -> Tensor:
    """Let every token attend to every other.

    Letters: ``b`` documents, ``h`` heads, ``l`` tokens, ``d`` width of a head.

    Args:
        query: Shape ``(b, h, l, d)``, any strides. Those of a transposed ``(b, l, h, d)``, as
            projections leave them, are not copied.
        key: Of the same shape and type.
        value: Of the same shape and type.
        scale: Scores are multiplied by it; ``d ** -0.5`` in BERT.
        mask: Added to scores, broadcast to ``(b, h, l, l)``. A token whose every score is minus
            infinity attends to all alike.
        rate: Share of the weights that are set to zero, in 0..1, 1 excluded; the others are
            divided by ``1 - rate``. torch's random numbers say which.

    Returns:
        Shape ``(b, h, l, d)``, type of the inputs.

    Raises:
        ValueError: A shape does not fit, there is no document or no token, the mask says true and
            false instead of what to add, or the rate is out of range.

    Source:
        vaswani2017attention, Sec. 3.2.1.
    """
    if query.dim() != 4 or 0 in query.shape:
        message = f"query must have shape (b, h, l, d), none of them 0; got {tuple(query.shape)}"
        raise ValueError(message)
    for name, part in (("key", key), ("value", value)):
        if part.shape != query.shape:
            message = f"{name} must have shape {tuple(query.shape)}; got {tuple(part.shape)}"
            raise ValueError(message)
    wide = (*query.shape[:3], query.shape[2])
    if mask is not None and not _fits(mask, wide):
        message = f"mask must broadcast to {wide}; got {tuple(mask.shape)}"
        raise ValueError(message)
    if mask is not None and not mask.is_floating_point():
        message = (
            f"mask is added to scores, so it must be of a floating-point type, minus infinity for "
            f"what is not seen; got {mask.dtype}"
        )
        raise ValueError(message)
    check_rate(rate)
    # It draws its seed, and is no operator.
    own = compiled.serves(query, key, value, mask) and not torch.compiler.is_compiling()
    variant = compiled if own else matrix
    return variant.attention(query, key, value, scale, mask, rate)


def _fits(mask: Tensor, wide: tuple[int, ...]) -> bool:
    return mask.dim() == 4 and all(a in (1, b) for a, b in zip(mask.shape, wide, strict=True))
