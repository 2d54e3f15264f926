"""Where products of bfloat16 go another way than torch's, and which.

On processors without AVX-512, PyTorch multiplies bfloat16 in plain loops, at a seventh of float32's
rate (docs/experiment-log.md). Here it is read as float32 on the way into a product, so that it
saves its memory and costs no time. Sums are float32's, rounded once, as where the processor
multiplies bfloat16 itself. Letters: ``m`` tokens, ``k`` inputs, ``n`` outputs.
"""

import functools
from types import ModuleType

import torch
from torch import Tensor

from longdoc.kernels import native_library
from longdoc.kernels.bfloat16 import blocked, compiled


@functools.cache
def slow() -> bool:
    """Say whether torch's own products of bfloat16 on this CPU are slower than float32's."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        return not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):  # private to torch
        return False


def serves(*parts: Tensor) -> bool:
    """Say whether these are bfloat16 on a CPU that is slow with it."""
    return slow() and all(x.dtype == torch.bfloat16 and x.device.type == "cpu" for x in parts)


def multiply(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply, without gradients.

    Args:
        left: Shape ``(m, k)``, any strides.
        right: Shape ``(k, n)``, any strides.
        bias: Added to every row, shape ``(n,)``.

    Returns:
        Shape ``(m, n)``, bfloat16.
    """
    found: Tensor = _variant().multiply(left, right, bias)
    return found


def add(to: Tensor, left: Tensor, right: Tensor, scaling: float) -> None:
    """Add a multiple of a product to bfloat16, in place.

    Args:
        to: Shape ``(m, n)``, contiguous.
        left: Shape ``(m, k)``, any strides.
        right: Shape ``(k, n)``, any strides.
        scaling: The product is multiplied by it.
    """
    _variant().add(to, left, right, scaling)


def gather(left: Tensor, right: Tensor) -> Tensor:
    """Multiply over tokens.

    Args:
        left: Shape ``(m, n)``, any strides.
        right: Shape ``(m, k)``, any strides.

    Returns:
        The transpose of ``left`` times ``right``, shape ``(n, k)``, in float32: it is a long sum.
    """
    found: Tensor = _variant().gather(left, right)
    return found


def _variant() -> ModuleType:
    return compiled if native_library.available() else blocked
