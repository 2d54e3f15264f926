"""A comparison as Markdown, for pages of results that are written by the code."""

from longdoc.experiments.compare import Comparison
from longdoc.report import tables
from longdoc.report.sections import frequency
from longdoc.report.sections.answer import answer, learnt_from
from longdoc.report.sections.scores import spread

COSTS = (
    ("trainable_parameters", "trained parameters, M", 1e6, 2),
    ("train_seconds", "training, min", 60.0, 1),
    ("train_tokens_per_second", "tokens/s", 1.0, 0),
    ("peak_bytes", "peak, GB", 1e9, 2),
)


def render(comparison: Comparison) -> str:
    """Write question, answer, scores, costs, what did not run, and where the numbers come from."""
    first = comparison.best().runs[0]
    documents = ", ".join(f"{split} {n}" for split, n in first.data["documents"].items())
    lines = [
        f"## {comparison.about.name}: {first.data['dataset']} {first.data['task']}",
        "",
        comparison.about.question,
        "",
        f"**{answer(comparison)}**",
        "",
        f"Documents: {documents}; labels: {len(first.data['labels'])}; digest "
        f"`{first.data['digest'][:16]}`. Thresholds chosen on validation.",
        "",
        *_table(comparison),
        "",
        *([different, ""] if (different := learnt_from(comparison)) else []),
        *_pairs(comparison),
        *_groups(comparison),
    ]
    for name, reason in comparison.failures.items():
        lines.append(f"- not run: {name}: {reason}")
    about = first.environment
    lines += [
        "",
        f"Made by {tables.made_by(comparison.command)} at commit `{about['commit']}` on "
        f"{about['processor']}, {about['threads']} threads, {about['precision']}; "
        f"{about['selective_scan']}; torch {about['packages']['torch']}, "
        f"transformers {about['packages']['transformers']}.",
        "",
    ]
    return "\n".join(lines)


def _table(comparison: Comparison) -> list[str]:
    mode = comparison.mode
    scores = ("micro-F1 ({0})", "95 %", "macro-F1 ({0})", "95 %")
    headers = ["system", "seeds", *(name.format(mode) for name in scores)]
    headers += ["micro / macro at 0.5", "micro / macro global"]
    headers += [title for _, title, _, _ in COSTS]
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    for system in comparison.systems:
        cells = [system.name, str(len(system.runs))]
        for metric in ("micro-f1", "macro-f1"):
            low, high = system.intervals[metric]
            cells += [spread(system, metric, mode), f"{low:.3f} to {high:.3f}"]
        for other in ("fixed", "global"):
            both = (f"{system.mean(metric, other):.3f}" for metric in ("micro-f1", "macro-f1"))
            cells.append(" / ".join(both))
        for name, _, scale, digits in COSTS:
            value = system.cost(name)
            cells.append("" if value is None else f"{value / scale:.{digits}f}")
        lines.append(tables.row(cells))
    return lines


MOST_IN_PAIRS = 8
"""Systems whose pairs are all spelt out: 28 sentences."""
MODES = (
    ("fixed", "0.5"),
    ("global", "one threshold, chosen for micro-F1 on validation"),
    ("per-label", "a threshold a label"),
)


def _groups(comparison: Comparison) -> list[str]:
    """Give micro and macro F1 of frequent and rare labels, at every kind of threshold."""
    first = comparison.best().runs[0]
    groups = frequency.groups_of(comparison)
    if first.data["kind"] != "multi-label" or len(groups) < 2:
        return []
    borders = first.settings.thresholds
    lines = [
        "",
        f"Labels: {frequency.sizes(comparison, groups)} (head: {borders.head} training documents "
        f"or more; tail: {borders.tail} or fewer). micro-F1 / macro-F1 on the test, means of the "
        f"seeds:",
    ]
    for mode, words in MODES:
        lines += ["", f"**{words}**", "", "| system | all | " + " | ".join(groups) + " |"]
        lines.append("|---" * (2 + len(groups)) + "|")
        for system in comparison.systems:
            cells = [system.name]
            for prefix in ("", *(f"{group}-" for group in groups)):
                both = (system.mean(f"{prefix}{m}", mode) for m in ("micro-f1", "macro-f1"))
                cells.append(" / ".join(frequency.figure(value) for value in both))
            lines.append(tables.row(cells))
    return lines


def _pairs(comparison: Comparison) -> list[str]:
    """Give every pair in words; of many systems only the pairs with the best."""
    wanted = [pair for pair in comparison.pairs if pair.metric == comparison.about.metric]
    best = comparison.best().name
    if len(comparison.systems) > MOST_IN_PAIRS:
        wanted = [pair for pair in wanted if best in (pair.first, pair.second)]
    return [f"- {pair.sentence()}" for pair in wanted]
