"""A sweep as Markdown: one row a trial, the best on validation first."""

from longdoc.experiments.space import axis_name, shown
from longdoc.experiments.sweep import Sweep, Tried
from longdoc.report import tables
from longdoc.report.sections.scores import spread


def answer(sweep: Sweep) -> str:
    """Say which settings are best on validation, and which are hardly worse."""
    best, metric = sweep.tried[0], sweep.about.metric
    value = best.validation(metric)
    text = (
        f"Best on validation: {best.system.name} ({metric.replace('f1', 'F1')} {value:.3f}; "
        f"on test {best.system.mean(metric, best.mode):.3f})."
    )
    deviation = best.system.spread(metric, best.mode, "validation")
    if deviation is None:
        return f"{text} One seed each: how much of a difference is luck is not known."
    if deviation == 0:
        alike = [t.system.name for t in sweep.tried[1:] if t.validation(metric) == value]
        also = f" As good: {'; '.join(alike)}." if alike else ""
        return f"{text}{also} Its seeds gave the same: how much is luck they do not say."
    close = [t for t in sweep.tried[1:] if t.validation(metric) >= value - deviation]
    if not close:
        return f"{text} No other comes within its seeds' standard deviation, {deviation:.3f}."
    names = "; ".join(entry.system.name for entry in close)
    return f"{text} Within its seeds' standard deviation, {deviation:.3f}: {names}."


def state(sweep: Sweep) -> str:
    """Say how much of a sweep is done."""
    rest = "" if sweep.complete else "; the rest is at work in other processes"
    return f"{sweep.made} of {max(sweep.made, sweep.planned)} trials ({sweep.about.method}){rest}"


def headers(sweep: Sweep) -> list[str]:
    """Name the columns."""
    chosen_by = sweep.about.metric.replace("f1", "F1")
    axes = [axis_name(axis).replace("_", " ") for axis in sweep.tried[0].point]
    scores = [f"{chosen_by}, validation", "micro-F1, test", "macro-F1, test"]
    return [*axes, *scores, "trained parameters", "training, min"]


def row(sweep: Sweep, entry: Tried) -> list[str]:
    """Give a trial's cells as text."""
    system, mode = entry.system, entry.mode
    axes = [shown(taken) for taken in entry.point.values()]
    scores = [
        spread(system, sweep.about.metric, mode, "validation"),
        *(spread(system, metric, mode) for metric in ("micro-f1", "macro-f1")),
    ]
    seconds = system.cost("train_seconds") or 0.0
    trained = system.cost("trainable_parameters") or 0.0
    return [*axes, *scores, f"{trained:,.0f}", f"{seconds / 60:.1f}"]


def render(sweep: Sweep) -> str:
    """Write question, answer, table, what failed, and where the numbers come from."""
    first = sweep.tried[0].system.runs[0]
    documents = ", ".join(f"{split} {n}" for split, n in first.data["documents"].items())
    about = first.environment
    lines = [
        f"## {sweep.about.name}: {first.data['dataset']} {first.data['task']}",
        "",
        sweep.about.question,
        "",
        f"**{answer(sweep)}**",
        "",
        f"{_shared(sweep)}Documents: {documents}; labels: {len(first.data['labels'])}; digest "
        f"`{first.data['digest'][:16]}`. Seeds: {', '.join(map(str, sweep.about.seeds))}. "
        f"{state(sweep)}.",
        "",
        tables.row(headers(sweep)),
        "|" + "---|" * len(headers(sweep)),
        *(tables.row(row(sweep, entry)) for entry in sweep.tried),
        "",
        *(f"- failed: {name}: {reason}" for name, reason in sweep.failures.items()),
        f"Made by {tables.made_by(sweep.command)} at commit `{about['commit']}` on "
        f"{about['processor']}, {about['threads']} threads, {about['precision']}; "
        f"torch {about['packages']['torch']}, transformers {about['packages']['transformers']}.",
        "",
    ]
    return "\n".join(lines)


def _shared(sweep: Sweep) -> str:
    """Name the backbone, where all trials have the same."""
    names = {entry.system.runs[0].settings.system() for entry in sweep.tried}
    return f"Backbone and tokens: {names.pop()}. " if len(names) == 1 else ""
