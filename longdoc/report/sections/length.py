"""Scores by document length."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
from markupsafe import Markup

from longdoc.experiments.compare import Comparison, System
from longdoc.metrics import classification
from longdoc.predictions import Predictions, decide
from longdoc.report import charts, html

TITLE = "Document length"
QUESTION = "Who does well on long documents?"
PARTS = 4


def _lengths(comparison: Comparison) -> tuple[Any, str] | None:
    """Give every test document's length, by the first system that counts tokens."""
    for system in comparison.systems:
        test = system.runs[0].predictions()["test"]
        if test.tokens.any():
            return dict(zip(test.ids, test.tokens.tolist(), strict=True)), system.name
    return None


def by_length(lengths: Mapping[str, int]) -> dict[str, set[str]]:
    """Give the documents of each quarter by length, under the bounds of their lengths.

    Quarters with the same bounds cannot be told apart by length, and are one.

    Example:
        >>> [sorted(part) for part in by_length({"a": 3, "b": 5, "c": 5, "d": 5}).values()]
        [['a'], ['b', 'c', 'd']]
    """
    names = sorted(lengths, key=lambda name: (lengths[name], name))
    quarters: dict[str, set[str]] = {}
    for part in np.array_split(np.array(names, dtype=object), PARTS):
        if len(part):
            title = f"{lengths[part[0]]}–{lengths[part[-1]]} tokens"
            quarters.setdefault(title, set()).update(part.tolist())
    return quarters


def _micro_f1(system: System, mode: str, ids: set[str]) -> float:
    values = []
    for run in system.runs:
        test: Predictions = run.predictions()["test"]
        rows = np.array([name in ids for name in test.ids])
        decided = decide(test.scores, test.kind, np.array(run.metrics["thresholds"][mode]))
        counts = classification.pooled(classification.count(test.truth[rows], decided[rows]))
        values.append(float(classification.f1(counts)[0]))
    return float(np.mean(values))


def render(comparison: Comparison) -> Markup | None:
    """Give micro-F1 in each quarter of the test documents by length; None if nobody counts."""
    found = _lengths(comparison)
    if found is None:
        return None
    lengths, counter = found
    quarters = by_length(lengths)
    titles, parts = list(quarters), list(quarters.values())
    rows = []
    points = []
    for system in comparison.systems:
        values = [_micro_f1(system, comparison.mode, part) for part in parts]
        rows.append([system.name, *(f"{value:.3f}" for value in values)])
        points += [
            {"system": system.name, "length": title, "value": value}
            for title, value in zip(titles, values, strict=True)
        ]
    order = [system.name for system in comparison.systems]
    chart = (
        alt.Chart(charts.rows(points))
        .mark_line(point=alt.OverlayMarkDef(size=60))
        .encode(
            x=alt.X("length:N", sort=titles, title="document length", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("value:Q", title="micro-F1"),
            color=charts.colour("system", order),
        )
    )
    caption = f"Micro-F1 in each quarter of the test documents, by length in {counter}'s tokens."
    words = "; ".join(f"{row[0]}: {', '.join(row[1:])}" for row in rows)
    return html.image(charts.picture(chart), words, caption) + html.table(["System", *titles], rows)
