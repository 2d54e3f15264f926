"""The roofline: what each piece of a Mamba layer reaches, under what memory and products allow.

A piece with few operations for each byte it moves is held back by memory (the slope), one with many
by arithmetic (the level). Bytes are those of its tensors read and written once.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import altair
import torch

from longdoc.benchmark import limit
from longdoc.benchmark.timing import seconds_of
from longdoc.kernels import causal_conv1d, rms_norm, selective_scan
from longdoc.kernels.linear import product

TOKENS, ROUNDS = 4096, 7
SCAN_OPERATIONS = 17
"""Of one state at one token: a product, an exponential of ten, and what the recurrence takes."""


@dataclass(frozen=True)
class Point:
    """One piece: operations a second, and operations for each byte moved."""

    name: str
    rate: float
    intensity: float


def measure(bfloat16: bool = False) -> tuple[list[Point], float, float]:
    """Measure a layer's pieces; gives them, the best rate of products, and bytes a second."""
    kind = torch.bfloat16 if bfloat16 else torch.float32
    with torch.no_grad():
        points = [*_products(kind), *_others(kind)]
    return points, max(p.rate for p in points), _bandwidth()


def _median(run: Callable[[], Any]) -> float:
    return statistics.median(seconds_of(run, ROUNDS))


def _bandwidth() -> float:
    x = torch.zeros(2**26)
    y = torch.empty_like(x)
    return 2 * x.nbytes / _median(lambda: y.copy_(x))


def _products(kind: torch.dtype) -> list[Point]:
    points = []
    for name, (inputs, outputs) in zip(
        ("in_proj", "x_proj", "dt_proj", "out_proj"), limit.PRODUCTS, strict=True
    ):
        x, weight = torch.randn(TOKENS, inputs).to(kind), torch.randn(outputs, inputs).to(kind)
        seconds = _median(partial(product, x, weight))
        count = limit.operations(1, TOKENS, ((inputs, outputs),))
        moved = x.nbytes + weight.nbytes + TOKENS * outputs * x.element_size()
        points.append(Point(name, count / seconds, count / moved))
    return points


def _others(kind: torch.dtype) -> list[Point]:
    d, n = limit.INNER, limit.STATES
    both = torch.randn(1, TOKENS, 2 * d).to(kind)
    u, z = (part.transpose(1, 2) for part in both.chunk(2, dim=2))
    delta = torch.randn(1, TOKENS, d).to(kind).transpose(1, 2)
    rates, skip, bias = -torch.rand(d, n) * 8, torch.randn(d), torch.randn(d)
    taken, given = (torch.randn(1, n, TOKENS) for _ in range(2))
    weight, x, scale = torch.randn(d, 4), torch.randn(TOKENS, limit.WIDTH), torch.ones(limit.WIDTH)
    size = both.element_size()
    table = (
        ("selective_scan", SCAN_OPERATIONS * TOKENS * d * n, 4 * TOKENS * d * size,
         lambda: selective_scan(u, delta, rates, taken, given, skip, z, bias, True)),
        ("causal_conv1d", (2 * 4 + 15) * TOKENS * d, 2 * TOKENS * d * size,
         lambda: causal_conv1d(u, weight, None, "silu")),
        ("rms_norm", 5 * x.numel(), 2 * x.nbytes, lambda: rms_norm(x, scale, 1e-5)),
    )  # fmt: skip
    return [
        Point(name, count / seconds, count / moved)
        for name, count, moved, run in table
        for seconds in (_median(run),)
    ]


def draw(points: list[Point], peak: float, bandwidth: float, file: Path) -> None:
    """Draw the roofline as SVG."""
    most = max(point.intensity for point in points) * 2
    knee = peak / bandwidth
    roof = [
        {"operations a byte": x, "GFLOP/s": min(peak, x * bandwidth) / 1e9}
        for x in (0.3, knee, most)
    ]
    dots = [
        {"piece": p.name, "operations a byte": p.intensity, "GFLOP/s": p.rate / 1e9} for p in points
    ]
    x = altair.X("operations a byte:Q", scale=altair.Scale(type="log"))
    y = altair.Y("GFLOP/s:Q", scale=altair.Scale(type="log"))
    line = altair.Chart(altair.Data(values=roof)).mark_line(color="#888").encode(x=x, y=y)
    marks = altair.Chart(altair.Data(values=dots)).mark_point(filled=True, size=60)
    names = altair.Chart(altair.Data(values=dots)).mark_text(dx=6, dy=-6, align="left")
    chart = (line + marks.encode(x=x, y=y) + names.encode(x=x, y=y, text="piece:N")).properties(
        width=560, height=320
    )
    chart.save(str(file), format="svg")
