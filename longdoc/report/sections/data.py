"""The documents."""

from markupsafe import Markup

from longdoc.documents.catalog import DATASETS
from longdoc.experiments.compare import Comparison
from longdoc.report import html
from longdoc.sources import lookup

TITLE = "Documents"
QUESTION = "Which documents were these?"


def render(comparison: Comparison) -> Markup:
    """Give the data set's card and what the reader noticed."""
    data = comparison.best().runs[0].data
    rows: list[list[str]] = [
        ["data set", data["dataset"]],
        ["task", f"{data['task']} ({data['kind']})"],
        ["documents", ", ".join(f"{split} {n}" for split, n in data["documents"].items())],
        ["labels", str(len(data["labels"]))],
        ["digest", data["digest"]],
    ]
    if data["dataset"] in DATASETS:
        card = DATASETS[data["dataset"]]
        reference = lookup(card.reference)
        rows += [
            ["what", card.summary],
            ["licence", card.licence],
            ["address", card.address],
            ["cite", f"{reference.short()}, {reference.title} {reference.address}".strip()],
        ]
    unseen = data["documents_with_a_label_unseen_in_training"]
    if any(unseen.values()):
        text = ", ".join(f"{split} {count}" for split, count in unseen.items())
        rows.append(["documents with a label unseen in training (that label is not scored)", text])
    rows += [[str(name).replace("_", " "), str(value)] for name, value in data["notes"].items()]
    return html.table(["", "Documents"], rows)
