"""Documents of unequal length laid one after the other, so that padding costs nothing.

``starts`` has the place of each document's first token and, at its end, the number of tokens:
``[0, 5, 12]`` for documents of five and of seven tokens, shape ``(documents + 1,)``, int64.
"""

import torch
from torch import Tensor


def check_starts(starts: Tensor, b: int, length: int) -> None:
    """Refuse places of documents that do not fit.

    Raises:
        ValueError: What is wrong with them.
    """
    if not isinstance(starts, Tensor):
        message = f"starts must be a tensor of int64; got {type(starts).__name__}"
        raise ValueError(message)
    if b != 1:
        message = f"starts goes with tensors of one row of documents, b = 1; got b = {b}"
        raise ValueError(message)
    if starts.dim() != 1 or starts.dtype != torch.int64 or len(starts) < 2:
        shape = tuple(starts.shape)
        message = f"starts must be int64 of shape (documents + 1,); got {starts.dtype} {shape}"
        raise ValueError(message)
    if starts[0] != 0 or starts[-1] != length or not bool((starts.diff() > 0).all()):
        message = f"starts must rise from 0 to {length}, the tokens; got {starts.tolist()}"
        raise ValueError(message)


def places_of(starts: Tensor) -> Tensor:
    """Number the tokens of documents that lie one after the other, each from zero.

    Args:
        starts: Where each begins, and at last the number of tokens, shape ``(documents + 1,)``.

    Returns:
        Shape ``(1, l)``.

    Example:
        >>> places_of(torch.tensor([0, 2, 5]))
        tensor([[0, 1, 0, 1, 2]])
    """
    before = starts[:-1].repeat_interleave(starts.diff())
    return (torch.arange(len(before), device=starts.device) - before)[None]


def check_numbers(**given: Tensor | None) -> None:
    """Refuse whole and complex numbers, of which kernels would make something else.

    Raises:
        ValueError: Which tensor it is.
    """
    for name, part in given.items():
        if part is not None and not part.is_floating_point():
            message = f"{name} must be of a floating-point type; got {part.dtype}"
            raise ValueError(message)
