"""Many settings tried on the same documents, chosen between on validation alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longdoc.errors import RunError
from longdoc.experiments import run, store, together
from longdoc.experiments.compare import System
from longdoc.experiments.plan import PlannedRun, seeded
from longdoc.experiments.runner import Runner, reason
from longdoc.experiments.space import Point, SweepPlan, SweepSettings, point_name
from longdoc.experiments.store import Run
from longdoc.experiments.study import RUNS, Study, Trial, why
from longdoc.progress import Progress, silent


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
        made: How many trials are done or have failed.
        planned: How many the whole sweep has.
        failures: Point to the reason why it has no value.
    """

    about: SweepSettings
    tried: tuple[Tried, ...]
    made: int
    planned: int
    failures: Mapping[str, str]
    command: str

    @property
    def complete(self) -> bool:
        """Whether nothing is left, nor at work in another process."""
        return self.made >= self.planned


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
    together.check(processes)
    root = Path(output) / plan.about.name
    study = _study(plan, root)
    study.retry()
    early = ""
    if processes == 1:
        work(plan, root, progress=progress)
    else:
        early = together.run(work, (plan, root), processes, lambda: _state(study), progress)
    progress(1.0, "reading runs")
    with study.turn():
        found = _read(plan, study, command)
        store.write_json(root / f"sweep-{plan.digest()}.json", as_values(found))
    if early and not found.complete:
        raise RunError(early)
    if not found.tried:
        reasons = [*found.failures.values(), "other processes are still at work on all of them"]
        message = f"not one trial succeeded: {reasons[0]}"
        raise RunError(message)
    return found


def _study(plan: SweepPlan, root: Path, runner: Runner | None = None) -> Study:
    """Open a sweep's journal; what was made of documents that have changed since is not kept."""
    known = runner or Runner(root / "runs")

    def is_kept(point: Point, runs: Sequence[str]) -> bool:
        digest = known.digest(plan.settings(point)) or ""
        return all(
            (known.root / name).is_dir() and name.endswith(digest[: run.CORPUS_DIGITS])
            for name in runs
        )

    return Study(root, plan, is_kept)


def work(plan: SweepPlan, root: Path, threads: int = 0, progress: Progress = silent) -> None:
    """Take trials from a sweep's journal until there are none left.

    Args:
        plan: What is tried.
        root: The sweep's folder.
        threads: How many this process may use; 0 leaves it as it is.
        progress: Told how far the sweep is.
    """
    if threads:
        torch.set_num_threads(threads)
    runner = Runner(root / "runs")
    study, total = _study(plan, root, runner), plan.trials()
    while True:
        with study.next() as trial:
            if trial is None:
                return
            _try(study, runner, trial, _part(progress, _finished(study), total))


def _state(study: Study) -> tuple[float, str]:
    """Give the share of a sweep's trials that have ended, and that in words."""
    finished, total = _finished(study), study.plan.trials()
    return min(1.0, finished / total), f"{finished} of {total} trials"


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
    made: list[Run] = []
    try:
        settings = study.plan.settings(trial.point)
        for place, seed in enumerate(seeds):
            tell = _part(
                lambda share, message: progress(share, f"{name}: {message}"), place, len(seeds)
            )
            planned = PlannedRun(name, seeded(settings, seed))
            with study.run_lock(planned.settings.digest()):
                made.append(runner.make(planned, tell))
    except Exception as error:  # whatever one trial does, the others go on
        study.fail(trial, reason(error))
        return
    value = Tried(trial.point, System(name, tuple(made), {})).validation(study.plan.about.metric)
    study.tell(trial, value, [entry.folder.name for entry in made])


def read(plan: SweepPlan, output: str | Path = "runs", command: str = "") -> Sweep:
    """Read what a sweep has come to so far, without trying anything."""
    return _read(plan, _study(plan, Path(output) / plan.about.name), command)


def _read(plan: SweepPlan, study: Study, command: str) -> Sweep:
    done, failed = study.done(), study.failures()
    points = {tuple(sorted(t.params.items())): t for t in done}  # a search may try a point twice
    tried = []
    for trial in points.values():
        point = {axis.name: trial.params[axis.name] for axis in plan.axes}
        runs = tuple(store.load(study.root / "runs" / name) for name in trial.user_attrs[RUNS])
        tried.append(Tried(point, System(point_name(point), runs, {})))
    metric = plan.about.metric
    tried.sort(key=lambda entry: -np.nan_to_num(entry.validation(metric), nan=-1.0))
    failures = {point_name(trial.params): why(trial) for trial in failed}
    made = len(done) + len(failed)
    return Sweep(plan.about, tuple(tried), made, plan.trials(), failures, command)


def as_values(sweep: Sweep) -> dict[str, Any]:
    """Give a sweep as plain values for JSON."""
    return {
        "question": sweep.about.question,
        "metric": sweep.about.metric,
        "method": sweep.about.method,
        "command": sweep.command,
        "trials_made": sweep.made,
        "trials_planned": sweep.planned,
        "trials": [
            {
                "point": dict(entry.point),
                "runs": [run.folder.name for run in entry.system.runs],
                "thresholds": entry.mode,
                "trainable_parameters": entry.system.cost("trainable_parameters"),
                "train_seconds": entry.system.cost("train_seconds"),
                **{
                    split: entry.system.numbers(entry.mode, split)
                    for split in ("validation", "test")
                },
            }
            for entry in sweep.tried
        ],
        "failed": dict(sweep.failures),
    }
