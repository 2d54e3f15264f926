"""Every system's scores, with spread and interval."""

from typing import Any

import altair as alt
from markupsafe import Markup

from longdoc.experiments.compare import Comparison, System
from longdoc.metrics.thresholds import MODES
from longdoc.report import charts, html

TITLE = "Scores"
QUESTION = "How well does each system do, and how sure is that?"
MORE = (
    "weighted-f1", "micro-precision", "micro-recall", "macro-precision", "macro-recall",
    "hamming-accuracy", "strict-accuracy",
)  # fmt: skip


def spread(system: System, metric: str, mode: str, split: str = "test") -> str:
    """Give mean and standard deviation over seeds as text."""
    deviation = system.spread(metric, mode, split)
    shown = "" if deviation is None else f" ± {deviation:.3f}"
    return f"{system.mean(metric, mode, split):.3f}{shown}"


def render(comparison: Comparison) -> Markup:
    """Give the table with intervals, the picture of it, and the further metrics."""
    mode = comparison.mode
    rows = []
    for system in comparison.systems:
        row: list[Any] = [system.name]
        for metric in ("micro-f1", "macro-f1"):
            low, high = system.intervals[metric]
            row += [spread(system, metric, mode), f"{low:.3f} – {high:.3f}"]
        rows.append([*row, system.runs[0].folder.name])
    rows += [
        [name, f"not run: {why}", None, None, None, None]
        for name, why in comparison.failures.items()
    ]
    headers = ["System", "micro-F1", "95 % interval", "macro-F1", "95 % interval", "First run"]
    body = html.table(headers, rows) + _picture(comparison)
    body += html.paragraph(
        "± is the standard deviation over seeds. Below, the same at every kind of threshold: fixed "
        "at 0.5, one global threshold, and one a label, the latter two chosen on validation:"
    )
    body += html.table(
        ["System", *(f"{m} {mode}" for mode in MODES for m in ("micro-F1", "macro-F1"))],
        [
            [s.name, *(spread(s, m, mode) for mode in MODES for m in ("micro-f1", "macro-f1"))]
            for s in comparison.systems
        ],
    )
    ranking = list(comparison.systems[0].runs[0].metrics["splits"]["test"]["ranking"])
    further = html.table(
        ["System", *MORE, *ranking],
        [
            [
                s.name,
                *(f"{s.mean(metric, mode):.3f}" for metric in MORE),
                *(f"{s.mean(metric, 'ranking'):.3f}" for metric in ranking),
            ]
            for s in comparison.systems
        ],
    )
    return body + html.folded("Further metrics", further)


def _picture(comparison: Comparison) -> Markup:
    metric = comparison.about.metric
    points = [
        {
            "system": system.name,
            "value": system.mean(metric, comparison.mode),
            "low": system.intervals[metric][0],
            "high": system.intervals[metric][1],
        }
        for system in comparison.systems
    ]
    order = [system.name for system in comparison.systems]
    base = alt.Chart(charts.rows(points)).encode(
        y=alt.Y("system:N", sort=order, title=None),
        color=charts.colour("system", order).legend(None),
    )
    axis = alt.X("low:Q", title=metric.replace("f1", "F1"), scale=alt.Scale(zero=False))
    chart = base.mark_rule(strokeWidth=3).encode(x=axis, x2="high:Q") + base.mark_point(
        size=90, filled=True, opacity=1
    ).encode(x=alt.X("value:Q", scale=alt.Scale(zero=False)))
    words = "; ".join(f"{p['system']} {p['value']:.3f}" for p in points)
    caption = f"Mean {metric.replace('f1', 'F1')} and its 95 % interval over documents and seeds."
    return html.image(charts.picture(chart, height=40 * len(points)), words, caption)
