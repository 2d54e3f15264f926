"""What tests of products share: drawn tensors, and gradients held against those of torch."""

import pytest
import torch

from longdoc.kernels import native_library
from tests.assertions import assert_close

needs_native = pytest.mark.skipif(
    native_library.load() is None, reason="the compiled kernels were not built on this machine"
)


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def gradients(function, *tensors):
    """Give a function's value and the gradients of its tensors."""
    leaves = [None if x is None else x.detach().clone().requires_grad_() for x in tensors]
    y = function(*leaves)
    # Eighths, which float32 and float64 have alike.
    weights = (torch.arange(y.numel()) % 17 - 8).to(y.dtype) / 8
    (y * weights.view_as(y)).sum().backward()
    return [y.detach(), *(x.grad for x in leaves if x is not None)]


def assert_same(found, wanted, tolerance):
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert_close(one.double(), other.double(), tolerance, f"tensor {place}")
