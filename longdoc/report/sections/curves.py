"""How training went."""

from collections.abc import Mapping

import altair as alt
from markupsafe import Markup

from longdoc.experiments.compare import Comparison
from longdoc.report import charts, html

TITLE = "Learning curves"
QUESTION = "Had training come to rest?"


def _line(name: str, record: Mapping[str, float]) -> str:
    """Name what one line shows: a run, or one of its folds."""
    return f"{name}, fold {record['fold']}" if "fold" in record else name


def render(comparison: Comparison) -> Markup | None:
    """Give the validation metric after each epoch; None where nothing was trained in epochs."""
    points = []
    for system in comparison.systems:
        for run in system.runs:
            metric = f"eval_{run.settings.training.metric}"
            points += [
                {
                    "system": system.name,
                    "run": _line(run.folder.name, record),
                    "epoch": record["epoch"],
                    "value": record[metric],
                }
                for record in run.history()
                if metric in record
            ]
    if not points:
        return None
    order = [system.name for system in comparison.systems]
    chart = (
        alt.Chart(charts.rows(points))
        .mark_line(point=True)
        .encode(
            x=alt.X("epoch:Q", title="epoch"),
            y=alt.Y("value:Q", title="validation metric"),
            color=charts.colour(
                "system", [n for n in order if any(p["system"] == n for p in points)]
            ),
            detail="run:N",
        )
    )
    last = {point["run"]: point["value"] for point in points}
    words = "; ".join(f"{run} ends at {value:.3f}" for run, value in last.items())
    caption = (
        "Validation metric that picks the checkpoint, after each epoch; a line a seed, or a fold."
    )
    return html.image(charts.picture(chart), words, caption)
