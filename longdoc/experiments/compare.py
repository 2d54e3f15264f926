"""Runs side by side: means, spreads, intervals, and whether differences are more than luck."""

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from longdoc.errors import RunError
from longdoc.experiments import making, store
from longdoc.experiments.chance import METRICS, Values, resample, swap, together
from longdoc.experiments.plan import Plan, PlanSettings
from longdoc.experiments.store import Run
from longdoc.metrics import significance
from longdoc.metrics.significance import Difference
from longdoc.metrics.thresholds import MODES
from longdoc.predictions import Predictions, decide
from longdoc.progress import Progress, silent

ALIKE = ("mode", "head", "tail")
"""Settings of thresholds that all runs of a comparison have in common."""
LEVEL = 0.05


@dataclass(frozen=True)
class System:
    """One system's runs, and what they come to.

    Attributes:
        intervals: Metric to its 95 % interval over documents and seeds.
    """

    name: str
    runs: tuple[Run, ...]
    intervals: dict[str, tuple[float, float]]

    def values(self, metric: str, mode: str, split: str = "test") -> list[float]:
        """Give a metric of every seed; ``mode`` may be ``ranking``."""
        return [run.metrics["splits"][split][mode].get(metric, float("nan")) for run in self.runs]

    def mean(self, metric: str, mode: str, split: str = "test") -> float:
        """Give a metric's mean over seeds."""
        return float(np.mean(self.values(metric, mode, split)))

    def spread(self, metric: str, mode: str, split: str = "test") -> float | None:
        """Give a metric's standard deviation over seeds; None for a single one."""
        values = self.values(metric, mode, split)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def numbers(self, mode: str, split: str = "test") -> dict[str, dict[str, Any]]:
        """Give both metrics with mean, spread and every seed's value, for JSON."""
        return {
            metric: {
                "mean": self.mean(metric, mode, split),
                "spread": self.spread(metric, mode, split),
                "seeds": self.values(metric, mode, split),
            }
            for metric in METRICS
        }

    def label_f1(self, labels: Sequence[str], mode: str) -> list[float]:
        """Give the F1 on the test of each of some labels, means over seeds."""
        found = [
            {row["label"]: row[mode]["f1"] for row in run.metrics["labels"]} for run in self.runs
        ]
        return [float(np.mean([values[label] for values in found])) for label in labels]

    def cost(self, name: str) -> float | None:
        """Give the median over seeds of what a run cost."""
        found = [run.timings[name] for run in self.runs if name in run.timings]
        return float(np.median(found)) if found else None


@dataclass(frozen=True)
class Pair:
    """Two systems and the difference between them."""

    first: str
    second: str
    metric: str
    difference: Difference
    corrected: float

    @property
    def significant(self) -> bool:
        """Whether the difference holds at 5 % after correction for all pairs."""
        return self.corrected < LEVEL

    def sentence(self) -> str:
        """Say the result in words."""
        gap = abs(self.difference.observed)
        if not self.significant:
            return (
                f"{self.first} and {self.second} are not significantly different in {self.metric} "
                f"(difference {gap:.3f}, corrected p {self.corrected:.3f})"
            )
        better, worse = (self.first, self.second)
        if self.difference.observed < 0:
            better, worse = worse, better
        return (
            f"{better} is better than {worse} in {self.metric} by {gap:.3f} "
            f"(corrected p {self.corrected:.4f})"
        )


@dataclass(frozen=True)
class Comparison:
    """Everything a report shows; made from run folders alone.

    Attributes:
        failures: System (with seed) to the reason why it did not run.
        groups: How many groups the test documents are of, where some belong together; they are
            drawn and swapped together then.

    Example:
        >>> from_runs([])
        Traceback (most recent call last):
        ...
        longdoc.errors.RunError: there is no complete run to compare
    """

    about: PlanSettings
    mode: str
    systems: tuple[System, ...]
    pairs: tuple[Pair, ...]
    failures: dict[str, str] = field(default_factory=dict)
    command: str = ""
    groups: int | None = None

    def best(self) -> System:
        """Give the system with the highest mean metric."""
        return self.systems[0]

    def learnt_from(self) -> dict[str, str]:
        """Say what each system learnt from, where that is not the same for all; else nothing."""
        firsts = {system.name: system.runs[0] for system in self.systems}
        if len({run.data["digest"] for run in firsts.values()}) == 1:
            return {}
        return {name: _training(run) for name, run in firsts.items()}

    def pair(self, first: str, second: str, metric: str) -> Pair | None:
        """Find the comparison of two systems, in whichever order."""
        for pair in self.pairs:
            if {pair.first, pair.second} == {first, second} and pair.metric == metric:
                return pair
        return None


def _training(run: Run) -> str:
    sizes, folds = run.data["documents"], run.settings.data.folds
    if folds is not None and run.settings.data.fold is None:
        return f"{sizes['train']} documents in {folds} folds"
    return f"{sizes['train']} documents and {sizes['validation']} for validation"


def from_runs(
    runs: Sequence[Run],
    about: PlanSettings | None = None,
    failures: dict[str, str] | None = None,
    command: str = "",
) -> Comparison:
    """Compare complete runs.

    Args:
        runs: Of one or more systems, all with the same labels and test documents; what they
            learnt from may differ.
        about: Metric, resamples and question.
        failures: What did not run.
        command: What makes the comparison again.

    Raises:
        RunError: There are none, or they were tested on different documents or labels.
    """
    if not runs:
        message = "there is no complete run to compare"
        raise RunError(message)
    about = about or PlanSettings()
    mode = runs[0].settings.thresholds.mode
    groups = store.by_system(runs)
    _check_same_documents(list(groups.values()))
    test = _test(runs[0])
    answers = {name: _answers(group, mode, test) for name, group in groups.items()}
    # One after the other: all scores of all runs are more than a machine may hold.
    units = together(_test(run).groups for run in runs)
    weights = significance.document_weights(len(test.ids), about.resamples, 0, units)
    resampled = {name: resample(name, answers[name], test.truth, weights) for name in groups}
    systems = [
        System(
            name,
            tuple(group),
            {metric: _interval(resampled[name][metric]) for metric in METRICS},
        )
        for name, group in groups.items()
    ]
    systems.sort(key=lambda system: -system.mean(about.metric, mode))
    swaps = significance.swaps(len(test.ids), about.resamples, 0, units)
    swapped = swap([system.name for system in systems], answers, test.truth, swaps)
    pairs = [p for metric in METRICS for p in _pairs(systems, resampled, swapped, metric, mode)]
    number = None if units is None else int(units.max()) + 1
    return Comparison(about, mode, tuple(systems), tuple(pairs), failures or {}, command, number)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    # Means that were moved apart for few seeds may leave the range of the metric.
    low, high = np.clip(significance.interval(values), 0.0, 1.0)
    return float(low), float(high)


def _check_same_documents(groups: Sequence[Sequence[Run]]) -> None:
    for group in groups:
        _check_same(group[0], group[1:])
    _check_same(groups[0][0], [group[0] for group in groups[1:]])


def _check_same(first: Run, others: Sequence[Run]) -> None:
    for other in others:
        for name in ALIKE:
            if getattr(other.settings.thresholds, name) != getattr(first.settings.thresholds, name):
                message = f"{other.folder} and {first.folder} have different thresholds.{name}"
                raise RunError(message)
        if not _same_test(first, other):
            message = (
                f"{other.folder} and {first.folder} were made on different documents "
                f"or labels "
                f"({other.data['dataset']} {other.data['digest'][:8]}, "
                f"{first.data['dataset']} {first.data['digest'][:8]})"
            )
            raise RunError(message)


def _same_test(first: Run, second: Run) -> bool:
    """Say whether two runs were asked the same; what two systems learnt from may differ."""
    if first.data["digest"] == second.data["digest"]:
        return True
    if first.system == second.system:
        return False
    # Runs of earlier versions do not say it.
    asked = [run.data.get("test_digest") for run in (first, second)]
    return asked[0] is not None and asked[0] == asked[1]


def _test(run: Run) -> Predictions:
    found = run.predictions()
    if "test" not in found:
        message = f"{run.folder} is damaged: its predictions lack the test documents"
        raise RunError(message)
    return found["test"]


def _answers(runs: Sequence[Run], mode: str, first: Predictions) -> list[sparse.csr_array]:
    """Give what each run decided, by seed, shape ``(n, c)``; few labels are, so little is kept.

    Labels stand in the order of the first run's: most frequent first, which depends on what there
    was to learn from.
    """
    found = []
    for run in sorted(runs, key=lambda run: run.settings.training.seed):
        test = _test(run)
        if test.ids != first.ids or sorted(test.labels) != sorted(first.labels):
            message = f"{run.folder} is damaged: its predictions are of other documents or labels"
            raise RunError(message)
        decided = decide(test.scores, test.kind, np.array(run.metrics["thresholds"][mode]))
        place = {label: column for column, label in enumerate(test.labels)}
        order = [place[label] for label in first.labels]
        found.append(sparse.csr_array(decided[:, order]))
    return found


def _pairs(
    systems: Sequence[System],
    resampled: Mapping[str, Values],
    swapped: Mapping[tuple[str, str], Values],
    metric: str,
    mode: str,
) -> list[Pair]:
    couples = list(itertools.combinations(systems, 2))
    differences = [
        significance.compare(
            first.mean(metric, mode) - second.mean(metric, mode),
            resampled[first.name][metric],
            resampled[second.name][metric],
            swapped[first.name, second.name][metric],
        )
        for first, second in couples
    ]
    corrected = significance.holm([difference.p for difference in differences])
    return [
        Pair(first.name, second.name, metric, difference, p)
        for (first, second), difference, p in zip(couples, differences, corrected, strict=True)
    ]


def as_values(comparison: Comparison) -> dict[str, Any]:
    """Give a comparison as plain values for JSON."""
    return {
        "question": comparison.about.question,
        "metric": comparison.about.metric,
        "thresholds": comparison.mode,
        "command": comparison.command,
        "groups": comparison.groups,
        "systems": [
            {
                "name": system.name,
                "runs": [entry.folder.name for entry in system.runs],
                "test": {mode: system.numbers(mode) for mode in MODES},
                "intervals": {metric: list(ends) for metric, ends in system.intervals.items()},
            }
            for system in comparison.systems
        ],
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "metric": pair.metric,
                "difference": pair.difference.observed,
                "low": pair.difference.low,
                "high": pair.difference.high,
                "p": pair.difference.p,
                "corrected_p": pair.corrected,
                "sentence": pair.sentence(),
            }
            for pair in comparison.pairs
        ],
        "not_run": comparison.failures,
    }


def execute(
    plan: Plan, output: str | Path = "runs", progress: Progress = silent, *, processes: int = 1
) -> Comparison:
    """Run what a plan asks for and compare it; what is there already is not run again.

    A run that fails becomes a row with its reason; the others go on. Other processes, on this
    machine or on others that share the folder, may work on the same plan at the same time.

    Args:
        plan: Systems and seeds.
        output: Folder in which the plan gets a folder of its own.
        progress: Told how far it is.
        processes: How many runs to have at work at once; they share the processor's threads.

    Raises:
        RunError: Not one run succeeded.
        SettingsError: So many processes cannot be.
    """
    root = Path(output) / plan.about.name
    finished, failures = making.make_all(plan, root, progress, processes)
    if not finished:
        message = f"not one run succeeded: {next(iter(failures.values()), 'the plan is empty')}"
        raise RunError(message)
    progress(1.0, "comparing")
    command = shlex.join(["longdoc", "compare", str(plan.file)]) if plan.file else ""
    comparison = from_runs(finished, plan.about, failures, command)
    store.write_json(root / "comparison.json", as_values(comparison))
    return comparison
