"""Where products of bfloat16 go another way than torch's, and which.

On processors without AVX-512, PyTorch multiplies bfloat16 in plain loops, at a seventh of float32's
rate or less (docs/experiment-log.md). Here it is read as float32 on the way into a product, which
then has float32's rate. Sums are float32's, rounded once, as where the processor multiplies
bfloat16 itself. Letters: ``m`` tokens, ``k`` inputs, ``n`` outputs.
"""

import functools
import platform
from types import ModuleType

import torch
from torch import Tensor

from longdoc.kernels import native_library
from longdoc.kernels.bfloat16 import blocked, compiled

FEWEST = 12
"""Rows below which torch's own product is as fast (docs/experiment-log.md)."""


def is_x86_without_avx512() -> bool:
    """Say whether torch runs on x86 and finds no AVX-512, or was told to leave it alone."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    return x86 and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")


@functools.cache
def slow() -> bool:
    """Say whether torch's own products of bfloat16 on this CPU are slower than float32's.

    Known of x86: what oneDNN does not multiply, torch does in plain loops.
    """
    if not is_x86_without_avx512():
        return False
    try:
        return not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):  # private to torch
        return True


def serves(*parts: Tensor) -> bool:
    """Say whether these are bfloat16 on a CPU that is slow with it, and nobody counts products."""
    ours = all(x.dtype == torch.bfloat16 and x.device.type == "cpu" for x in parts)
    return slow() and ours and not native_library.is_counted()


def multiply(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply, without gradients.

    Args:
        left: Shape ``(m, k)``, any strides.
        right: Shape ``(k, n)``, any strides.
        bias: Added to every row, shape ``(n,)``.

    Returns:
        Shape ``(m, n)``, bfloat16.

    Raises:
        ValueError: Shapes do not fit.
    """
    _check(left, right)
    if bias is not None and bias.shape not in ((), (1,), (right.shape[1],)):
        message = f"bias must have shape ({right.shape[1]},); got {tuple(bias.shape)}"
        raise ValueError(message)
    if len(left) < FEWEST:
        return left @ right if bias is None else torch.addmm(bias.to(left.dtype), left, right)
    found: Tensor = _variant().multiply(left, right, bias)
    return found


def add(to: Tensor, left: Tensor, right: Tensor, scaling: float) -> None:
    """Add a multiple of a product to bfloat16, in place.

    Args:
        to: Shape ``(m, n)``, contiguous.
        left: Shape ``(m, k)``, any strides.
        right: Shape ``(k, n)``, any strides.
        scaling: The product is multiplied by it.

    Raises:
        ValueError: Shapes do not fit.
    """
    _check(left, right)
    shape = (left.shape[0], right.shape[1])
    if to.shape != shape or not to.is_contiguous():
        message = f"to must be contiguous, of shape {shape}; got {tuple(to.shape)}"
        raise ValueError(message)
    _variant().add(to, left, right, scaling)


def gather(left: Tensor, right: Tensor) -> Tensor:
    """Multiply over tokens.

    Args:
        left: Shape ``(m, n)``, any strides.
        right: Shape ``(m, k)``, any strides.

    Returns:
        The transpose of ``left`` times ``right``, shape ``(n, k)``, in float32: it is a long sum.

    Raises:
        ValueError: Shapes do not fit.
    """
    _check(left.t(), right)
    found: Tensor = _variant().gather(left, right)
    return found


def _check(left: Tensor, right: Tensor) -> None:
    if left.dim() != 2 or right.dim() != 2 or left.shape[1] != right.shape[0]:
        shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
        message = f"shapes (m, k) and (k, n) are needed to multiply; got {shapes}"
        raise ValueError(message)


def _variant() -> ModuleType:
    return compiled if native_library.available() else blocked
