"""Whether differences are more than luck."""

from markupsafe import Markup

from longdoc.experiments.compare import Comparison
from longdoc.report import html

TITLE = "Differences"
FEW = 5
"""Seeds from which on the test holds its 5 % nearly (benchmarks/equal_systems.py), and groups below
which the page warns: our choice."""
QUESTION = "Which differences are more than luck of documents and seeds?"


def render(comparison: Comparison) -> Markup | None:
    """Give a sentence a pair for the main metric, and the numbers of both metrics."""
    if not comparison.pairs:
        return None
    metric = comparison.about.metric
    said = [p.sentence() for p in comparison.pairs if p.metric == metric]
    rows = [
        [
            f"{p.first} – {p.second}",
            p.metric.replace("f1", "F1"),
            f"{p.difference.observed:+.3f}",
            f"{p.difference.low:+.3f} to {p.difference.high:+.3f}",
            f"{p.difference.p:.4f}",
            f"{p.corrected:.4f}",
        ]
        for p in comparison.pairs
    ]
    headers = ["Pair", "Metric", "Difference", "95 % interval", "p", "p, corrected"]
    body = html.bullets(said) + html.folded("Numbers", html.table(headers, rows))
    return body + html.paragraph(
        "The larger p of two tests: a paired bootstrap over the test documents (Berg-Kirkpatrick "
        "et al. 2012), seeds drawn anew each time, and what is left of the difference when both "
        "systems swap their answers to documents drawn by lot (Yeh 2000): the bootstrap alone "
        "calls too many equal systems different where labels have few test documents. With one "
        "seed a system, p is about these two runs, not about what other seeds would do. p "
        "corrected for the number of pairs a metric by Holm's method (1979); below 0.05 counts as "
        "different. Intervals are the bootstrap's; a label of which a resample has no document is "
        "left out of its macro-F1." + _groups(comparison) + _few_seeds(comparison)
    )


def _groups(comparison: Comparison) -> str:
    if comparison.groups is None:
        return ""
    text = (
        f" The test documents are of {comparison.groups} groups; a group's documents are drawn, "
        "and swapped, together."
    )
    if comparison.groups < FEW:
        text += " So few groups say next to nothing about others: do not rely on these intervals."
    return text


def _few_seeds(comparison: Comparison) -> str:
    """Say so where seeds are too few to know what others would do; one is spoken of above."""
    few = min(
        (len(system.runs) for system in comparison.systems if len(system.runs) > 1), default=FEW
    )
    if few >= FEW:
        return ""
    return (
        f" Where a system has {few} seeds, luck of seeds is only guessed at: where it is larger "
        f"than that of documents, equal systems are called different more often than in 5 % of "
        f"tests."
    )
