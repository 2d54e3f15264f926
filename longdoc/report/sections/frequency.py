"""Scores by how often a label occurs in training."""

import math

import altair as alt
import numpy as np
from markupsafe import Markup

from longdoc.experiments.compare import Comparison
from longdoc.metrics.classification import group_rows
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


def groups_of(comparison: Comparison) -> list[str]:
    """Give the groups that any system has labels in, by its own training documents."""
    tests = [system.runs[0].metrics["splits"]["test"]["fixed"] for system in comparison.systems]
    return [group for group in GROUPS if any(f"{group}-macro-f1" in test for test in tests)]


def sizes(comparison: Comparison, groups: list[str]) -> str:
    """Count the labels of each group; systems with other training documents have other groups."""
    found: dict[str, list[str]] = {}
    for system in comparison.systems:
        run = system.runs[0]
        borders, counts = run.settings.thresholds, np.array(run.data["training_counts"])
        rows = group_rows(counts, borders.head, borders.tail)
        counted = ", ".join(f"{group} {len(rows[group])}" for group in groups)
        found.setdefault(counted, []).append(system.name)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"of {', '.join(names)} {counted}" for counted, names in found.items())


def render(comparison: Comparison) -> Markup:
    """Give macro-F1 by group, and every label's F1 against its training documents."""
    mode = comparison.mode
    groups = groups_of(comparison)
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
        {"system": system.name, "documents": max(1, learnt[label]), "f1": value}
        for system in comparison.systems
        for learnt in [{row["label"]: row["train"] for row in system.runs[0].metrics["labels"]}]
        for label, value in zip(names, system.label_f1(names, mode), strict=True)
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
    caption = f"Labels: {sizes(comparison, groups)}. A dot a label; lines follow each system."
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
        folds = run.settings.data.folds
        which = f", in the first of its {folds} folds" if folds else ""
        title = f"{system.name}: what its sampler makes of each label{which}"
        tables += html.folded(title, html.table(headers, rows))
    return tables
