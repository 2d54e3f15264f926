"""What was asked, and the answer in a sentence."""

from markupsafe import Markup

from longdoc.experiments.compare import Comparison
from longdoc.report import html

TITLE = "Answer"
QUESTION = "What was asked, and what came out?"


def answer(comparison: Comparison) -> str:
    """Say in words which system is best, and how sure that is."""
    best, metric, mode = comparison.best(), comparison.about.metric, comparison.mode
    low, high = best.intervals[metric]
    name = metric.replace("f1", "F1")
    text = (
        f"{best.name} has the highest {name} on the test documents: "
        f"{best.mean(metric, mode):.3f} (95 % interval {low:.3f} to {high:.3f})."
    )
    pairs = [
        (other.name, pair)
        for other in comparison.systems[1:]
        if (pair := comparison.pair(best.name, other.name, metric)) is not None
    ]
    tied = [other for other, pair in pairs if not pair.significant]
    beaten = [other for other, pair in pairs if pair.significant]
    if beaten:
        text += f" It is better than {_join(beaten)}."
    if tied:
        text += f" It is not significantly different from {_join(tied)}."
    equals = [system for system in comparison.systems if system.name in tied]
    cheapest = min([best, *equals], key=lambda system: system.cost("train_seconds") or 0.0)
    if cheapest.name in tied:
        text += f" Of these {cheapest.name} is the cheapest to train."
    return text


def learnt_from(comparison: Comparison) -> str:
    """Say in words that systems had different documents to learn from; empty where they had not."""
    groups: dict[str, list[str]] = {}
    for name, text in comparison.learnt_from().items():
        groups.setdefault(text, []).append(name)
    if not groups:
        return ""
    each = "; ".join(f"{_join(names)} from {text}" for text, names in groups.items())
    return (
        f"Systems did not learn from the same documents: {each}. Head, medium and tail labels are "
        f"counted in each system's own."
    )


def _join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def render(comparison: Comparison) -> Markup:
    """Give question, answer, and what did not run."""
    body = html.paragraph(comparison.about.question) + html.paragraph(answer(comparison))
    seeds = {system.name: len(system.runs) for system in comparison.systems}
    counted = ", ".join(f"{name} {number}" for name, number in seeds.items())
    body += html.paragraph(
        f"Decisions use {comparison.mode} thresholds chosen on validation documents. Intervals "
        f"resample documents and seeds {comparison.about.resamples} times. Seeds: {counted}."
    )
    if different := learnt_from(comparison):
        body += html.paragraph(different)
    if comparison.failures:
        body += html.table(["Not run", "Why"], comparison.failures.items())
    return body
