"""Scores by how often a label occurs in training."""

import math

import altair as alt
from markupsafe import Markup

from longdoc.experiments.compare import Comparison
from longdoc.report import charts, html

TITLE = "Label frequency"
QUESTION = "Who does well on rare labels?"
GROUPS = ("head", "medium", "tail")


def figure(value: float) -> str:
    """Spell a score; a system whose own training documents leave a group empty has none.

    Example:
        >>> figure(0.5), figure(float("nan"))
        ('0.500', '-')
    """
    return "-" if math.isnan(value) else f"{value:.3f}"


def render(comparison: Comparison) -> Markup:
    """Give macro-F1 by group, and every label's F1 against its training documents."""
    mode = comparison.mode
    test = comparison.systems[0].runs[0].metrics["splits"]["test"][mode]
    groups = [group for group in GROUPS if f"{group}-macro-f1" in test]
    rows = [
        [
            s.name,
            *(figure(s.mean(f"{g}-{m}", mode)) for g in groups for m in ("micro-f1", "macro-f1")),
        ]
        for s in comparison.systems
    ]
    headers = ["System", *(f"{group} {m}" for group in groups for m in ("micro-F1", "macro-F1"))]
    labels = comparison.systems[0].runs[0].metrics["labels"]
    names, counts = [row["label"] for row in labels], [row["train"] for row in labels]
    points = [
        {"system": system.name, "documents": max(1, count), "f1": value}
        for system in comparison.systems
        for count, value in zip(counts, system.label_f1(names, mode), strict=True)
    ]
    order = [system.name for system in comparison.systems]
    dots = (
        alt.Chart(charts.rows(points))
        .mark_point(size=18, opacity=0.45, filled=True)
        .encode(
            x=alt.X("documents:Q", scale=alt.Scale(type="log"), title="training documents (log)"),
            y=alt.Y("f1:Q", title="F1 of the label"),
            color=charts.colour("system", order),
        )
    )
    body = html.table(headers, rows)
    if len(set(counts)) > 4:
        trend = dots.transform_loess("documents", "f1", groupby=["system"], bandwidth=0.7)
        chart = dots + trend.mark_line(strokeWidth=2.5)
    else:
        chart = dots
    words = "; ".join(" ".join(row) for row in rows)
    caption = "A dot a label; lines follow each system."
    return body + html.image(charts.picture(chart), words, caption) + sampled(comparison)


def sampled(comparison: Comparison) -> Markup:
    """Give how often each label occurs in an epoch of the systems that resample, and without."""
    tables = Markup("")
    for system in comparison.systems:
        run = system.runs[0]
        about = run.environment["notes"].get("imbalance", {})
        if "label_documents" not in about:
            continue
        known = about["label_documents"]
        both = zip(run.data["labels"], known["before"], known["after"], strict=True)
        rows = [
            [label, str(before), str(after), f"{after / before:.2f}" if before else "-"]
            for label, before, after in sorted(both, key=lambda row: -row[1])
        ]
        headers = ["Label", "Training documents", f"First epoch with {about['sampler']}", "Times"]
        title = f"{system.name}: what its sampler makes of each label"
        tables += html.folded(title, html.table(headers, rows))
    return tables
