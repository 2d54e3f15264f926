"""What the machine can do at most: matrix products at its best rate, and nothing waits.

The limit of a forward pass is the time of its matrix products at the best rate that any of the
shapes reaches here, and of its exponentials at ``EXPONENTIALS`` a second. The floor of a training
step on frozen weights is twice the products: once forward, once back.
"""

from dataclasses import dataclass
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


class Rates:
    """The best rates of products that were seen in a run.

    A machine shared with others has slow minutes: one look at the beginning would make everything
    after a slow one faster than its limit.
    """

    def __init__(self) -> None:
        self.best = {False: 0.0, True: 0.0}

    def look(self, bfloat16: bool, rounds: int = 5) -> None:
        """Measure once more; the better rate counts."""
        self.best[bfloat16] = max(self.best[bfloat16], best_rate(bfloat16, rounds))

    def words(self) -> str:
        """Say what was reached."""
        names = {False: "float32", True: "bfloat16"}
        seen = [
            f"{self.best[k] / 1e9:.0f} GFLOP/s in {n}" for k, n in names.items() if self.best[k]
        ]
        return f"products reached {' and '.join(seen) or 'nothing'} at best"


@dataclass(frozen=True)
class Limit:
    """What some work takes at least, at the best rates seen until it is asked."""

    rates: Rates
    bfloat16: bool
    operations: float
    exponentials: float = 0.0

    def seconds(self) -> float:
        """Give the least time; infinite as long as no rate is known."""
        rate = self.rates.best[self.bfloat16]
        products = self.operations / rate if rate else float("inf")
        return products + self.exponentials / EXPONENTIALS


def forward(rates: Rates, bfloat16: bool, layers: int, tokens: int) -> Limit:
    """Give the limit of a forward pass of mamba-130m's layers."""
    exponentials = layers * tokens * INNER * STATES
    return Limit(rates, bfloat16, operations(layers, tokens), exponentials)


def step(rates: Rates, bfloat16: bool, layers: int, tokens: int) -> Limit:
    """Give the floor of a training step with frozen weights."""
    return Limit(rates, bfloat16, 2 * operations(layers, tokens))
