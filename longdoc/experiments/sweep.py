"""Many settings tried on the same documents, chosen between on validation alone."""

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longdoc.errors import RunError
from longdoc.experiments import store
from longdoc.experiments.compare import METRICS, System
from longdoc.experiments.plan import PlannedRun, seeded
from longdoc.experiments.runner import Runner, reason
from longdoc.experiments.space import Point, SweepPlan, SweepSettings, point_name
from longdoc.experiments.store import Run
from longdoc.experiments.study import REASON, RUNS, Study, Trial
from longdoc.settings import require
from longdoc.training.progress import Progress, silent

LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Tried:
    """A trial that has a value: its point, and its runs as a system's."""

    point: Point
    system: System

    @property
    def mode(self) -> str:
        """The thresholds by which it is judged."""
        return self.system.runs[0].settings.thresholds.mode

    def validation(self, metric: str) -> float:
        """Give the validation metric's mean over seeds."""
        return self.system.mean(metric, self.mode, "validation")


@dataclass(frozen=True)
class Sweep:
    """What a sweep came to, the best on validation first.

    Attributes:
        planned: How many trials the whole sweep has.
        failures: Point to the reason why it has no value.
    """

    about: SweepSettings
    tried: tuple[Tried, ...]
    planned: int
    failures: Mapping[str, str]
    command: str


def execute(
    plan: SweepPlan,
    output: str | Path = "runs",
    progress: Progress = silent,
    *,
    processes: int = 1,
    command: str = "",
) -> Sweep:
    """Try what a sweep asks for; what is there already is not tried again.

    Other processes, on this machine or on others that share the folder, may work on the same sweep
    at the same time. A trial that fails is noted with its reason; the others go on.

    Args:
        plan: What is tried.
        output: Folder in which the sweep gets a folder of its own.
        progress: Told how far it is.
        processes: How many trials to have at work at once; they share the processor's threads.
        command: What makes the sweep again.

    Raises:
        RunError: Not one trial succeeded, or a process was killed.
    """
    require(processes >= 1, "processes", "at least 1", processes)
    root = Path(output) / plan.about.name
    Study(root, plan).retry()
    if processes == 1:
        work(plan, root, progress)
    else:
        _together(plan, root, processes, progress)
    progress(1.0, "reading runs")
    found = read(plan, output, command)
    if not found.tried:
        message = f"not one trial succeeded: {next(iter(found.failures.values()), 'all at work')}"
        raise RunError(message)
    store.write_json(root / "sweep.json", as_values(found))
    return found


def work(plan: SweepPlan, root: Path, progress: Progress = silent, threads: int = 0) -> None:
    """Take trials from a sweep's journal until there are none left.

    Args:
        plan: What is tried.
        root: The sweep's folder.
        progress: Told how far the sweep is.
        threads: How many this process may use; 0 leaves it as it is.
    """
    if threads:
        torch.set_num_threads(threads)
    study, runner = Study(root, plan), Runner(root / "runs")
    total = plan.trials()
    while True:
        with study.next() as trial:
            if trial is None:
                return
            _try(study, runner, trial, _part(progress, _finished(study), total))


def _finished(study: Study) -> int:
    return len(study.done()) + len(study.failures())


def _part(progress: Progress, finished: int, total: int) -> Progress:
    """Give what a trial tells its own progress to."""

    def tell(share: float, message: str) -> None:
        progress(min(1.0, (finished + share) / total), message)

    return tell


def _try(study: Study, runner: Runner, trial: Trial, progress: Progress) -> None:
    """Make a trial's runs, one a seed, and note what they come to."""
    name, seeds = point_name(trial.point), study.plan.about.seeds
    runs: list[Run] = []
    try:
        settings = study.plan.settings(trial.point)
        for number, seed in enumerate(seeds):
            tell = _part(
                lambda share, message: progress(share, f"{name}: {message}"), number, len(seeds)
            )
            runs.append(runner.make(PlannedRun(name, seeded(settings, seed)), tell))
    except Exception as error:  # whatever one trial does, the others go on
        study.fail(trial, reason(error))
        return
    study.tell(trial, _value(study.plan, runs), [run.folder.name for run in runs])


def _value(plan: SweepPlan, runs: list[Run]) -> float:
    mode = runs[0].settings.thresholds.mode
    return System("", tuple(runs), {}).mean(plan.about.metric, mode, "validation")


def _together(plan: SweepPlan, root: Path, processes: int, progress: Progress) -> None:
    """Have several processes work on a sweep, and tell how far they are together."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // processes)
    workers = [
        context.Process(target=work, args=(plan, root, silent, threads)) for _ in range(processes)
    ]
    try:
        for worker in workers:
            worker.start()
        _watch(plan, root, workers, progress)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    killed = [worker.exitcode for worker in workers if worker.exitcode]
    if killed:
        message = (
            f"{len(killed)} of {processes} processes ended early (exit code {killed[0]}; -9 is "
            f"mostly too little memory); the same command goes on where they were"
        )
        raise RunError(message)


def _watch(plan: SweepPlan, root: Path, workers: Sequence[BaseProcess], progress: Progress) -> None:
    study, total = Study(root, plan), plan.trials()
    while any(worker.is_alive() for worker in workers):
        finished = _finished(study)
        progress(finished / total, f"{finished} of {total} trials")
        for worker in workers:
            worker.join(LOOK_SECONDS / len(workers))


def read(plan: SweepPlan, output: str | Path = "runs", command: str = "") -> Sweep:
    """Read what a sweep has come to so far, without trying anything."""
    root = Path(output) / plan.about.name
    study = Study(root, plan)
    points = {point_name(t.params): t for t in study.done()}  # a search may try a point twice
    tried = []
    for name, trial in points.items():
        runs = tuple(store.load(root / "runs" / run) for run in trial.user_attrs[RUNS])
        tried.append(Tried(trial.params, System(name, runs, {})))
    metric = plan.about.metric
    tried.sort(key=lambda entry: -np.nan_to_num(entry.validation(metric), nan=-1.0))
    failures = {point_name(t.params): t.user_attrs[REASON] for t in study.failures()}
    return Sweep(plan.about, tuple(tried), plan.trials(), failures, command)


def as_values(sweep: Sweep) -> dict[str, Any]:
    """Give a sweep as plain values for JSON."""
    return {
        "question": sweep.about.question,
        "metric": sweep.about.metric,
        "method": sweep.about.method,
        "command": sweep.command,
        "planned": sweep.planned,
        "trials": [
            {
                "point": dict(entry.point),
                "runs": [run.folder.name for run in entry.system.runs],
                "thresholds": entry.mode,
                "trainable_parameters": entry.system.cost("trainable_parameters"),
                "train_seconds": entry.system.cost("train_seconds"),
                **{
                    split: {
                        metric: {
                            "mean": entry.system.mean(metric, entry.mode, split),
                            "spread": entry.system.spread(metric, entry.mode, split),
                            "seeds": entry.system.values(metric, entry.mode, split),
                        }
                        for metric in METRICS
                    }
                    for split in ("validation", "test")
                },
            }
            for entry in sweep.tried
        ],
        "failed": dict(sweep.failures),
    }
