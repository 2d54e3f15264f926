"""How training went."""

import altair as alt
from markupsafe import Markup

from longdoc.experiments.compare import Comparison
from longdoc.report import charts, html

TITLE = "Learning curves"
QUESTION = "Had training come to rest?"


def render(comparison: Comparison) -> Markup | None:
    """Give the validation metric after each epoch; None where nothing was trained in epochs."""
    points = []
    for system in comparison.systems:
        for run in system.runs:
            metric = f"eval_{run.settings.training.metric}"
            points += [
                {
                    "system": system.name,
                    "run": run.folder.name,
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
    caption = "Validation metric that picks the checkpoint, after each epoch; a line a seed."
    return html.image(charts.picture(chart), words, caption)
