"""What the machine can do at most: matrix products at its best rate, and nothing waits.

The limit of a forward pass is the time of its matrix products at the best rate that any of the
shapes reaches here, and of its exponentials at ``EXPONENTIALS`` a second. The floor of a training
step on frozen weights is twice the products: once forward, once back.
"""

from functools import partial

import torch

from longdoc.benchmark.timing import seconds_of
from longdoc.kernels.linear import product

WIDTH, INNER, STATES, RANK = 768, 1536, 16, 48
PRODUCTS = ((WIDTH, 2 * INNER), (INNER, RANK + 2 * STATES), (RANK, INNER), (INNER, WIDTH))
"""Inputs and outputs of a layer's projections in mamba-130m."""
EXPONENTIALS = 32e9
"""A decision of the project: what two cores of the machine it was built on reach."""
TOKENS = 2048


def best_rate(bfloat16: bool, rounds: int = 5) -> float:
    """Measure floating-point operations a second of the fastest of a layer's products."""
    kind = torch.bfloat16 if bfloat16 else torch.float32
    best = 0.0
    for inputs, outputs in PRODUCTS:
        x, weight = torch.randn(TOKENS, inputs).to(kind), torch.randn(outputs, inputs).to(kind)
        with torch.no_grad():
            fastest = min(seconds_of(partial(product, x, weight), rounds))
        best = max(best, operations(1, TOKENS, ((inputs, outputs),)) / fastest)
    return best


def operations(layers: int, tokens: int, shapes: tuple[tuple[int, int], ...] = PRODUCTS) -> float:
    """Count the floating-point operations of the products of some layers.

    Example:
        >>> operations(1, 10, ((3, 4),))
        240.0
    """
    return float(sum(2 * layers * tokens * a * b for a, b in shapes))


def forward_seconds(rate: float, layers: int, tokens: int) -> float:
    """Give the limit of a forward pass of mamba-130m's layers."""
    exponentials = layers * tokens * INNER * STATES
    return operations(layers, tokens) / rate + exponentials / EXPONENTIALS


def step_seconds(rate: float, layers: int, tokens: int) -> float:
    """Give the floor of a training step with frozen weights."""
    return 2 * operations(layers, tokens) / rate
