"""The journal of a sweep: which trials there are, and which comes next.

Optuna keeps the trials in one file that several processes share. Two things are done around it.
Choosing a trial is one step that a process takes alone, so that two never choose the same point of
a grid. And a trial holds a lock while it is at work; the lock of a process that was killed is free,
so that its trial is taken up again, by whoever comes next, where its runs stopped.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from longdoc.experiments.space import Point, Range, SweepPlan
from longdoc.training.workplace import locked

JOURNAL = "journal.log"
RUNS, REASON, AGAIN = "runs", "reason", "again"
"""What a trial remembers: its run folders, why it failed, that another has taken it up."""


@dataclass(frozen=True)
class Trial:
    """A point that was chosen.

    Attributes:
        number: In the journal.
        entry: Optuna's own.
    """

    number: int
    point: Point
    entry: optuna.Trial


class Study:
    """The trials of one sweep.

    Args:
        root: The sweep's folder, with the journal and the locks.
        plan: What is tried; another plan is another study in the same journal.
    """

    def __init__(self, root: Path, plan: SweepPlan) -> None:
        self.root, self.plan = root, plan
        self.locks = root / "locks"
        self.locks.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with self._turn():
            self.study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(root / JOURNAL))),
                study_name=f"{plan.about.name}-{plan.digest()}",
                direction="maximize",
                load_if_exists=True,
            )

    @contextlib.contextmanager
    def next(self) -> Iterator[Trial | None]:
        """Choose the next trial and hold it while it is at work; None when there is no more."""
        with contextlib.ExitStack() as held:
            with self._turn():
                trial = self._choose()
                if trial is not None:
                    held.enter_context(locked(self._lock(trial.number), wait=True))
            yield trial

    def _choose(self) -> Trial | None:
        self._take_up()
        waiting = self._trials(TrialState.WAITING)
        if not waiting:
            count = len(self._counted())
            if self.plan.about.method != "grid":
                if count >= self.plan.about.trials:
                    return None
            elif (point := self._untried()) is not None:
                self.study.enqueue_trial(dict(point))
            else:
                return None
        self.study.sampler = self._sampler()
        asked = self.study.ask()
        for axis in self.plan.axes:
            if not isinstance(axis, Range):
                asked.suggest_categorical(axis.name, list(axis.options))
            elif axis.whole:
                asked.suggest_int(axis.name, int(axis.low), int(axis.high), log=axis.log)
            else:
                asked.suggest_float(axis.name, axis.low, axis.high, log=axis.log)
        return Trial(asked.number, asked.params, asked)

    def _take_up(self) -> None:
        """Queue again what was at work in a process that ended, or lost its run folders."""
        for trial in self._trials(TrialState.RUNNING):
            with locked(self._lock(trial.number), wait=False) as ended:
                if ended:
                    self._queue(trial)
                    self.study.tell(trial.number, state=TrialState.FAIL)
        for trial in self._current(TrialState.COMPLETE):
            if not self._kept(trial):
                self._queue(trial)

    def _queue(self, trial: FrozenTrial) -> None:
        if set(trial.params) == {axis.name for axis in self.plan.axes}:
            self.study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})

    def _kept(self, trial: FrozenTrial) -> bool:
        return all((self.root / "runs" / name).is_dir() for name in trial.user_attrs[RUNS])

    def _untried(self) -> Point | None:
        tried = [dict(trial.params) for trial in self._counted()]
        return next((point for point in self.plan.points() if dict(point) not in tried), None)

    def _sampler(self) -> Any:
        """Give a sampler that knows only seed and number, so that a resumed sweep goes on alike."""
        seed = self.plan.about.sampler_seed + 1000 * len(self._counted())
        if self.plan.about.method == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def _counted(self) -> list[FrozenTrial]:
        """List the trials at work, done, or failed for a reason of their own."""
        return [*self._trials(TrialState.RUNNING), *self.done(), *self.failures()]

    def done(self) -> list[FrozenTrial]:
        """List the trials that have a value and all their runs."""
        return [trial for trial in self._current(TrialState.COMPLETE) if self._kept(trial)]

    def failures(self) -> list[FrozenTrial]:
        """List the trials that failed, with their reason."""
        return [t for t in self._current(TrialState.FAIL) if REASON in t.user_attrs]

    def retry(self) -> None:
        """Queue again what has failed before; what was wrong may be mended."""
        with self._turn():
            for trial in self.failures():
                self._queue(trial)

    def _current(self, state: TrialState) -> list[FrozenTrial]:
        """List the trials of a state that no other has taken up."""
        taken_up = {trial.user_attrs.get(AGAIN) for trial in self._trials()}
        return [trial for trial in self._trials(state) if trial.number not in taken_up]

    def tell(self, trial: Trial, value: float, runs: Sequence[str]) -> None:
        """Note what a trial came to.

        Args:
            trial: As it was chosen.
            value: Its mean validation metric.
            runs: Its run folders' names.
        """
        trial.entry.set_user_attr(RUNS, list(runs))
        self.study.tell(trial.number, value)

    def fail(self, trial: Trial, reason: str) -> None:
        """Note why a trial has no value."""
        trial.entry.set_user_attr(REASON, reason)
        self.study.tell(trial.number, state=TrialState.FAIL)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _turn(self) -> contextlib.AbstractContextManager[bool]:
        return locked(self.locks / "turn", wait=True)

    def _lock(self, number: int) -> Path:
        return self.locks / f"trial-{number}"
