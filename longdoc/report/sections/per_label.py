"""Every label's F1."""

from markupsafe import Markup

from longdoc.experiments.compare import Comparison
from longdoc.report import html

TITLE = "Every label"
QUESTION = "Which labels are found, and which are missed?"
MOST = 500


def render(comparison: Comparison) -> Markup:
    """Give a row a label, most frequent first, with each system's F1, mean over seeds."""
    mode = comparison.mode
    labels = comparison.systems[0].runs[0].metrics["labels"]
    names = [row["label"] for row in labels]
    values = [system.label_f1(names, mode) for system in comparison.systems]
    order = sorted(range(len(labels)), key=lambda place: -labels[place]["train"])
    rows = [
        [
            labels[place]["label"],
            labels[place]["train"],
            labels[place]["test"],
            *(f"{column[place]:.3f}" for column in values),
        ]
        for place in order[:MOST]
    ]
    headers = ["Label", "Train", "Test", *(system.name for system in comparison.systems)]
    shown = html.table(headers, rows)
    left = f" (the {MOST} most frequent of {len(labels)})" if len(labels) > MOST else ""
    return html.folded(f"F1 of {min(MOST, len(labels))} labels{left}", shown)
