"""What quality costs."""

import altair as alt
from markupsafe import Markup

from longdoc.experiments.compare import Comparison, System
from longdoc.report import charts, html

TITLE = "Cost"
QUESTION = "What does each system cost to train and to run?"


def _number(value: float | None, scale: float, unit: str, digits: int = 1) -> str | None:
    return None if value is None else f"{value / scale:,.{digits}f} {unit}".strip()


def _row(system: System) -> list[str | None]:
    return [
        system.name,
        _number(system.cost("trainable_parameters"), 1e6, "M", 2),
        _number(system.cost("parameters"), 1e6, "M", 2),
        _number(system.cost("train_seconds"), 60, "min"),
        _number(system.cost("train_tokens_per_second"), 1, "", 0),
        _number(system.cost("predict_tokens_per_second"), 1, "", 0),
        _number(system.cost("peak_bytes"), 1e9, "GB", 2),
    ]


def render(comparison: Comparison) -> Markup:
    """Give the costs, medians over seeds, and quality against training time."""
    headers = [
        "System", "Trained parameters", "All parameters", "Training", "Training tokens/s",
        "Prediction tokens/s", "Peak memory",
    ]  # fmt: skip
    body = html.table(headers, [_row(system) for system in comparison.systems])
    points = [
        {
            "system": system.name,
            "minutes": max(1e-3, (system.cost("train_seconds") or 0.0) / 60),
            "value": system.mean(comparison.about.metric, comparison.mode),
        }
        for system in comparison.systems
    ]
    order = [system.name for system in comparison.systems]
    name = comparison.about.metric.replace("f1", "F1")
    chart = (
        alt.Chart(charts.rows(points))
        .mark_point(size=140, filled=True, opacity=1)
        .encode(
            x=alt.X("minutes:Q", scale=alt.Scale(type="log"), title="training, minutes (log)"),
            y=alt.Y("value:Q", title=name),
            color=charts.colour("system", order),
            shape=alt.Shape("system:N", scale=alt.Scale(domain=order), sort=order, title=None),
        )
    )
    words = "; ".join(
        f"{p['system']}: {p['minutes']:.1f} minutes, {p['value']:.3f}" for p in points
    )
    body += html.image(
        charts.picture(chart), words, f"{name} against training time; up and left is better."
    )
    return body + html.paragraph(
        "Training time holds validation after each epoch; tokens are real ones, without padding. "
        "Peak memory is the whole process's. Medians over seeds."
    )
