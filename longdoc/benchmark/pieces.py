"""The pieces of one of mamba-130m's layers, each timed alone.

What they add up to beside a whole model's time says what runs between them, and what it costs that
each finds its tensors further away than when it runs again and again; beside the limit, what the
pieces themselves leave. Of a step the first layer does less, and the gradient that is added to the
residual is not among the pieces.
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
from longdoc.kernels.linear import linear
from longdoc.kernels.low_rank import low_rank_linear

PROJECTIONS = ("in_proj", "x_proj", "dt_proj", "out_proj")
TWICE = ("x_proj", "dt_proj", "causal_conv1d", "rms_norm")
"""What a training step does once more on its way back (docs/decisions/0006)."""
SCAN_OPERATIONS = 17
"""Of one state at one token: a product, an exponential of ten, and what the recurrence takes."""
LORA_RANK = 16
"""As :func:`longdoc.adapters.lora.add_lora` has it."""
ROUNDS = 7


@dataclass(frozen=True)
class Piece:
    """One piece of a layer.

    Attributes:
        forward: Seconds, from the median of some runs.
        operations: Floating-point operations.
        moved: Bytes of its tensors, read and written once.
        backward: Seconds of its gradients, likewise; 0 where none were asked for.
    """

    name: str
    forward: float
    operations: float
    moved: float
    backward: float = 0.0

    def step(self) -> float:
        """Give the seconds it takes of a training step."""
        return self.forward * (2 if self.name in TWICE else 1) + self.backward

    def times(self, count: float) -> "Piece":
        """Give so many runs of it as one piece."""
        numbers = (self.forward, self.operations, self.moved, self.backward)
        return Piece(self.name, *(count * number for number in numbers))


def forward(bfloat16: bool, tokens: int, at_once: int) -> list[Piece]:
    """Time what a forward pass of a layer consists of.

    Args:
        bfloat16: Whether products are in bfloat16, under autocast.
        tokens: Of the document; the normalisation and the sum take all of them.
        at_once: How many of them the mixer takes at once; its pieces are timed at so many, and
            counted as often as it takes to come through the document.
    """
    kind = _kind(bfloat16)
    with torch.no_grad():
        mixer = [*_products(kind, at_once), *_mixing(kind, at_once, trains=False)]
        around = _around(kind, tokens, trains=False)
    return [*(piece.times(tokens / at_once) for piece in mixer), *around]


def step(bfloat16: bool, tokens: int) -> list[Piece]:
    """Time what a training step of a layer consists of: LoRA on projections, weights frozen."""
    kind = _kind(bfloat16)
    mixer = [*_adapted(kind, tokens), *_mixing(kind, tokens, trains=True)]
    return [*mixer, *_around(kind, tokens, trains=True)]


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
    return there, _median(lambda: torch.autograd.grad(y, leaves, gradient, retain_graph=True))


def _work(tokens: int, inputs: int, outputs: int, size: int) -> tuple[float, float]:
    """Give the operations of a product, and the bytes it moves."""
    moved = size * (tokens * inputs + inputs * outputs + tokens * outputs)
    return limit.operations(1, tokens, ((inputs, outputs),)), moved


def _projection(name: str, kind: torch.dtype, tokens: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Give a projection's input, weight and bias as the mixer has them."""
    inputs, outputs = limit.PRODUCTS[PROJECTIONS.index(name)]
    x, weight = torch.randn(1, tokens, inputs).to(kind), torch.randn(outputs, inputs)
    if name != "dt_proj":
        return x, weight, None
    # The first columns of what x_proj makes.
    wide = torch.randn(1, tokens, inputs + 2 * limit.STATES).to(kind)
    return wide[:, :, :inputs], weight, torch.randn(outputs)


def _products(kind: torch.dtype, tokens: int) -> list[Piece]:
    made = []
    half = kind == torch.bfloat16
    for name, (inputs, outputs) in zip(PROJECTIONS, limit.PRODUCTS, strict=True):
        x, weight, bias = _projection(name, kind, tokens)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            seconds = _median(partial(linear, x, weight, bias))
        made.append(Piece(name, seconds, *_work(tokens, inputs, outputs, kind.itemsize)))
    return made


def _adapted(kind: torch.dtype, tokens: int) -> list[Piece]:
    made = []
    for name, (inputs, outputs) in zip(PROJECTIONS, limit.PRODUCTS, strict=True):
        x, weight, bias = _projection(name, kind, tokens)
        x.requires_grad_()
        a = torch.randn(LORA_RANK, inputs).requires_grad_()
        b = torch.randn(outputs, LORA_RANK).requires_grad_()
        run = partial(low_rank_linear, x, weight, bias, a, b, 1.0)
        there, back = _both_ways(run, (x, a, b))
        made.append(Piece(name, there, *_work(tokens, inputs, outputs, kind.itemsize), back))
    return made


def _mixing(kind: torch.dtype, tokens: int, trains: bool) -> list[Piece]:
    """Time the scan and the convolution."""
    d, n, size = limit.INNER, limit.STATES, kind.itemsize
    both = torch.randn(1, tokens, 2 * d).to(kind)
    u, z = (part.transpose(1, 2).requires_grad_(trains) for part in both.chunk(2, dim=2))
    delta = torch.randn(1, tokens, d).to(kind).transpose(1, 2).requires_grad_(trains)
    taken, given = (torch.randn(1, n, tokens).requires_grad_(trains) for _ in range(2))
    rates, skip = -torch.rand(d, n) * 8, torch.randn(d)
    weight, bias = torch.randn(d, 4), torch.randn(d)
    scan = _both_ways(
        lambda: selective_scan(u, delta, rates, taken, given, skip, z, None, True),
        (u, z, delta, taken, given) if trains else (),
    )
    conv = _both_ways(lambda: causal_conv1d(u, weight, bias, "silu"), (u,) if trains else ())
    counts = (SCAN_OPERATIONS * tokens * d * n, (2 * 4 + 15) * tokens * d)
    return [
        Piece("selective_scan", scan[0], counts[0], 4 * tokens * d * size, scan[1]),
        Piece("causal_conv1d", conv[0], counts[1], 2 * tokens * d * size, conv[1]),
    ]


def _around(kind: torch.dtype, tokens: int, trains: bool) -> list[Piece]:
    """Time the normalisation before the mixer, and the sum after it."""
    x = torch.randn(tokens, limit.WIDTH).requires_grad_(trains)
    made = torch.randn(tokens, limit.WIDTH).to(kind)
    scale, size = torch.ones(limit.WIDTH), x.numel()
    norm = _both_ways(lambda: rms_norm(x, scale, 1e-5, kind), (x,) if trains else ())
    plain = not residual.serves(x, kind)
    total = _median(lambda: x + made if plain else residual.add(x, made))
    return [
        Piece("rms_norm", norm[0], 5 * size, size * (4 + kind.itemsize), norm[1]),
        Piece("add", total, size, size * (8 + kind.itemsize)),
    ]
