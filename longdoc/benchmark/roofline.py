"""The roofline: what each piece of a Mamba layer reaches, under what memory and products allow.

A piece with few operations for each byte it moves is held back by memory (the slope), one with many
by arithmetic (the level). Bytes are those of its tensors read and written once.
"""

import statistics
from pathlib import Path

import altair
import torch

from longdoc.benchmark import pieces
from longdoc.benchmark.pieces import Piece
from longdoc.benchmark.timing import seconds_of

TOKENS, ROUNDS = 4096, 7


def measure(bfloat16: bool = False) -> tuple[list[Piece], float]:
    """Measure a layer's pieces; gives them, and the bytes a second that a copy moves."""
    return pieces.forward(bfloat16, TOKENS, TOKENS), _bandwidth()


def _bandwidth() -> float:
    x = torch.zeros(2**26)
    y = torch.empty_like(x)
    return 2 * x.nbytes / statistics.median(seconds_of(lambda: y.copy_(x), ROUNDS))


def draw(found: list[Piece], bandwidth: float, file: Path) -> None:
    """Draw the roofline as SVG; its level is the best rate of any piece."""
    rates = {p.name: p.operations / p.forward for p in found}
    intensity = {p.name: p.operations / p.moved for p in found}
    peak = max(rates.values())
    least, most = min(intensity.values()) / 2, max(intensity.values()) * 2
    knee = peak / bandwidth
    roof = [
        {"operations a byte": x, "GFLOP/s": min(peak, x * bandwidth) / 1e9}
        for x in (least, knee, most)
    ]
    dots = [
        {"piece": name, "operations a byte": intensity[name], "GFLOP/s": rate / 1e9}
        for name, rate in rates.items()
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
