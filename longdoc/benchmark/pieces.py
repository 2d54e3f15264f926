"""The pieces of one of mamba-130m's layers, each timed alone.

What they add up to beside a whole model's time says what runs between them; beside the limit, what
the pieces themselves leave. Letters: ``l`` tokens, ``d`` inner channels, ``n`` states.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longdoc.benchmark import limit
from longdoc.benchmark.timing import seconds_of
from longdoc.kernels import causal_conv1d, residual, rms_norm, selective_scan
from longdoc.kernels.linear import product
from longdoc.kernels.low_rank import low_rank_linear

PROJECTIONS = ("in_proj", "x_proj", "dt_proj", "out_proj")
TWICE = ("x_proj", "dt_proj", "causal_conv1d", "rms_norm")
"""What a training step does once more on its way back (docs/decisions/0006)."""
SCAN_OPERATIONS = 17
"""Of one state at one token: a product, an exponential of ten, and what the recurrence takes."""
LORA_RANK = 16
ROUNDS = 7


@dataclass(frozen=True)
class Piece:
    """One piece of a layer.

    Attributes:
        forward: Median seconds of one run.
        operations: Floating-point operations of one run.
        moved: Bytes of its tensors, read and written once.
        backward: Median seconds of its gradients; 0 where none were asked for.
    """

    name: str
    forward: float
    operations: float
    moved: float
    backward: float = 0.0

    def step(self) -> float:
        """Give the seconds it takes of a training step."""
        return self.forward * (2 if self.name in TWICE else 1) + self.backward


def forward(bfloat16: bool, tokens: int) -> list[Piece]:
    """Time what a forward pass of a layer consists of."""
    kind = _kind(bfloat16)
    with torch.no_grad():
        return [*_products(kind, tokens), *_others(kind, tokens, trains=False)]


def step(bfloat16: bool, tokens: int) -> list[Piece]:
    """Time what a training step of a layer consists of: LoRA on projections, weights frozen."""
    kind = _kind(bfloat16)
    return [*_adapted(kind, tokens), *_others(kind, tokens, trains=True)]


def _kind(bfloat16: bool) -> torch.dtype:
    return torch.bfloat16 if bfloat16 else torch.float32


def _median(run: Callable[[], object]) -> float:
    return statistics.median(seconds_of(run, ROUNDS))


def _both_ways(run: Callable[[], Any], leaves: Sequence[Tensor]) -> tuple[float, float]:
    """Time a function forward and, where it has leaves, the gradients of these."""
    there = _median(run)
    if not leaves:
        return there, 0.0
    y = run()
    gradient = torch.ones_like(y)
    return there, _median(
        lambda: torch.autograd.grad(y, leaves, gradient, retain_graph=True, allow_unused=True)
    )


def _work(tokens: int, inputs: int, outputs: int, size: int) -> tuple[float, float]:
    """Give the operations of a product, and the bytes it moves."""
    moved = size * (tokens * inputs + inputs * outputs + tokens * outputs)
    return limit.operations(1, tokens, ((inputs, outputs),)), moved


def _products(kind: torch.dtype, tokens: int) -> list[Piece]:
    made = []
    for name, (inputs, outputs) in zip(PROJECTIONS, limit.PRODUCTS, strict=True):
        x, weight = torch.randn(tokens, inputs).to(kind), torch.randn(outputs, inputs).to(kind)
        seconds = _median(partial(product, x, weight))
        made.append(Piece(name, seconds, *_work(tokens, inputs, outputs, kind.itemsize)))
    return made


def _adapted(kind: torch.dtype, tokens: int) -> list[Piece]:
    made = []
    for name, (inputs, outputs) in zip(PROJECTIONS, limit.PRODUCTS, strict=True):
        x = torch.randn(tokens, inputs).to(kind).requires_grad_()
        weight = torch.randn(outputs, inputs)
        a = torch.randn(LORA_RANK, inputs).requires_grad_()
        b = torch.randn(outputs, LORA_RANK).requires_grad_()
        run = partial(low_rank_linear, x, weight, None, a, b, 1.0)
        there, back = _both_ways(run, (x, a, b))
        made.append(Piece(name, there, *_work(tokens, inputs, outputs, kind.itemsize), back))
    return made


def _others(kind: torch.dtype, tokens: int, trains: bool) -> list[Piece]:
    d, n, size = limit.INNER, limit.STATES, kind.itemsize
    both = torch.randn(1, tokens, 2 * d).to(kind)
    u, z = (part.transpose(1, 2).requires_grad_(trains) for part in both.chunk(2, dim=2))
    delta = torch.randn(1, tokens, d).to(kind).transpose(1, 2).requires_grad_(trains)
    taken, given = (torch.randn(1, n, tokens).requires_grad_(trains) for _ in range(2))
    rates, skip, bias = -torch.rand(d, n) * 8, torch.randn(d), torch.randn(d)
    weight, scale = torch.randn(d, 4), torch.ones(limit.WIDTH)
    x = torch.randn(tokens, limit.WIDTH).requires_grad_(trains)
    made = torch.randn(tokens, limit.WIDTH).to(kind)

    table = (
        ("selective_scan", SCAN_OPERATIONS * tokens * d * n, 4 * tokens * d * size,
         lambda: selective_scan(u, delta, rates, taken, given, skip, z, bias, True),
         (u, z, delta, taken, given)),
        ("causal_conv1d", (2 * 4 + 15) * tokens * d, 2 * tokens * d * size,
         lambda: causal_conv1d(u, weight, None, "silu"), (u,)),
        ("rms_norm", 5 * x.numel(), x.numel() * (4 + size),
         lambda: rms_norm(x, scale, 1e-5, kind), (x,)),
        ("add", x.numel(), x.numel() * (8 + size), lambda: residual.add(x, made), ()),
    )  # fmt: skip
    return [
        Piece(name, there, count, moved, back)
        for name, count, moved, run, leaves in table
        for there, back in (_both_ways(run, leaves if trains else ()),)
    ]
