"""Whether differences are more than luck."""

from markupsafe import Markup

from longdoc.experiments.compare import Comparison
from longdoc.report import html

TITLE = "Differences"
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
        "Paired bootstrap over the test documents (Berg-Kirkpatrick et al. 2012), seeds drawn "
        "anew each time; p corrected for the number of pairs a metric by Holm's method (1979). "
        "Below 0.05 counts as different. Where many labels have one or two test documents, p of "
        "macro-F1 is too small: in a simulation one pair of equal systems in nine was called "
        "different before correction. A label of which a resample has no document is left out of "
        "its macro-F1."
    )
