"""What tests of gradients of gradients share: drawn tensors, and a penalty on gradients."""

import torch

from tests import tolerances
from tests.assertions import assert_close


def drawn(*shape, scale=1.0, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * scale


def twice_through(function, inputs, kind):
    """Give the gradients, and those of a penalty on them, by a gradient that needs none itself."""
    given = [part.detach().to(kind).requires_grad_() for part in inputs]
    torch.manual_seed(5)
    made = function(*given)
    outputs = made if isinstance(made, tuple) else (made,)
    loss = sum((part * drawn(*part.shape).to(part.dtype)).sum() for part in outputs)
    first = torch.autograd.grad(loss, given, create_graph=True)
    # A sum alone, so that the gradient that comes from above needs no gradient.
    penalty = sum((part * drawn(*part.shape, seed=1).to(part.dtype)).sum() for part in first)
    return *first, *torch.autograd.grad(penalty, given, allow_unused=True)


def assert_twice(ours, wanted, *inputs):
    found = twice_through(ours, inputs, torch.float32)
    for place, (one, other) in enumerate(
        zip(found, twice_through(wanted, inputs, torch.float64), strict=True)
    ):
        if other is None or one is None:
            assert all(part is None or not part.any() for part in (one, other)), place
        else:
            assert_close(one.detach().double(), other.detach(), tolerances.SCAN_FLOAT32, f"{place}")
