"""How often labels occur."""

import altair as alt
from markupsafe import Markup

from longdoc.experiments.compare import Comparison
from longdoc.report import charts, html

TITLE = "Labels"
QUESTION = "How many labels are there, and how rare are they?"


def render(comparison: Comparison) -> Markup:
    """Give the frequencies of labels in training, most frequent first."""
    run = comparison.best().runs[0]
    counts = sorted(run.data["training_counts"], reverse=True)
    borders = run.settings.thresholds
    head = sum(count >= borders.head for count in counts)
    tail = sum(count <= borders.tail for count in counts)
    points = [{"rank": place + 1, "documents": count} for place, count in enumerate(counts)]
    chart = (
        alt.Chart(charts.rows([p for p in points if p["documents"] > 0]))
        .mark_bar(color=charts.COLOURS[0])
        .encode(
            x=alt.X("rank:Q", title="label, most frequent first"),
            y=alt.Y(
                "documents:Q",
                title="training documents (log)",
                scale=alt.Scale(type="log", domainMin=0.8),
            ),
            y2=alt.datum(0.8),
        )
    )
    text = (
        f"{len(counts)} labels: {head} head (at least {borders.head} training documents), "
        f"{len(counts) - head - tail} medium, {tail} tail (at most {borders.tail}). "
        f"The most frequent has {counts[0]} training documents, the median label "
        f"{counts[len(counts) // 2]}, the rarest {counts[-1]}."
    )
    return html.paragraph(text) + html.image(
        charts.picture(chart), text, "Training documents a label."
    )
