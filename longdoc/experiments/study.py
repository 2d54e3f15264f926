"""The journal of a sweep: which trials there are, and which comes next.

Optuna keeps the trials in one file that several processes share. Two locks stand around it. What is
read and written to choose a trial, or to note what it came to, happens in a turn that a process
takes alone. And a trial holds a lock while it is at work; the system frees that of a process that
was killed, so that the trial is taken up again, by whoever comes next, where its runs stopped.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from longdoc.experiments.space import Choices, Point, Range, SweepPlan
from longdoc.locks import locked

JOURNAL = "journal.log"
RUNS, REASON, AGAIN, DEATHS = "runs", "reason", "again", "deaths"
"""What a trial remembers: its run folders; why it failed; which trial it takes up again, and how
often the process of that one had ended."""
MOST_DEATHS = 3


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


class _InTurn(JournalFileOpenLock):
    """Optuna's lock around each line it appends; not needed, for that happens in a turn.

    Its own are files that stay behind when a process is killed.
    """

    def acquire(self) -> bool:
        """Do nothing."""
        return True

    def release(self) -> None:
        """Do nothing."""


def distribution(axis: Choices | Range) -> BaseDistribution:
    """Give an axis in Optuna's words; the order of choices does not matter to it."""
    if isinstance(axis, Choices):
        return CategoricalDistribution(sorted(axis.options))
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def why(trial: FrozenTrial) -> str:
    """Say why a trial failed; nothing where it was only interrupted."""
    deaths = trial.user_attrs.get(DEATHS, 0) + 1
    often = f"its process was ended {deaths} times" if deaths >= MOST_DEATHS else ""
    return str(trial.user_attrs.get(REASON, often))


class Study:
    """The trials of one sweep.

    Args:
        root: The sweep's folder, with the journal and the locks.
        plan: What is tried; another plan is another study in the same journal.
        is_kept: Says whether the runs of a trial that is done are still there, and still those of
            the same documents.
    """

    def __init__(
        self, root: Path, plan: SweepPlan, is_kept: Callable[[Point, Sequence[str]], bool]
    ) -> None:
        self.root, self.plan, self.is_kept = root, plan, is_kept
        self.locks = root / "locks"
        self.locks.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.journal = root / JOURNAL
        with self.turn():
            place = str(self.journal)
            self.study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(place, _InTurn(place))),
                study_name=f"{plan.about.name}-{plan.digest()}",
                direction="maximize",
                load_if_exists=True,
            )

    @contextlib.contextmanager
    def next(self) -> Iterator[Trial | None]:
        """Choose the next trial and hold it while it is at work; None when there is no more."""
        with contextlib.ExitStack() as held:
            with self.turn():
                trial = self._choose()
                if trial is not None:
                    held.enter_context(locked(self._lock(trial.number), wait=True))
            yield trial

    def _choose(self) -> Trial | None:
        self._take_up()
        if not self._trials(TrialState.WAITING):
            if not self.plan.makes_all():
                if len(self._counted()) >= self.plan.trials():
                    return None
            elif (point := self._untried()) is not None:
                self.study.enqueue_trial(dict(point))
            else:
                return None
        self.study.sampler = self._sampler()
        asked = self.study.ask({axis.name: distribution(axis) for axis in self.plan.axes})
        return Trial(asked.number, asked.params, asked)

    def _take_up(self) -> None:
        """Queue again what was at work in a process that ended, or is done but no longer kept."""
        for trial in self._trials(TrialState.RUNNING):
            with locked(self._lock(trial.number), wait=False) as ended:
                if ended:
                    self._bury(trial)
        for trial in self._current(TrialState.COMPLETE):
            if not self._kept(trial):
                self._queue(trial)

    def _bury(self, trial: FrozenTrial) -> None:
        """Call a trial whose process ended failed; what has ended too often is not tried again."""
        deaths = trial.user_attrs.get(DEATHS, 0) + 1
        if deaths < MOST_DEATHS and trial.number not in self._taken_up():
            self._queue(trial, deaths)
        self.study.tell(trial.number, state=TrialState.FAIL)

    def _queue(self, trial: FrozenTrial, deaths: int = 0) -> None:
        point = trial.params or trial.system_attrs.get("fixed_params", {})
        if set(point) == {axis.name for axis in self.plan.axes}:
            self.study.enqueue_trial(point, user_attrs={AGAIN: trial.number, DEATHS: deaths})

    def _kept(self, trial: FrozenTrial) -> bool:
        return self.is_kept(trial.params, trial.user_attrs[RUNS])

    def _untried(self) -> Point | None:
        tried = [dict(trial.params) for trial in self._counted()]
        return next((point for point in self.plan.points() if dict(point) not in tried), None)

    def _sampler(self) -> Any:
        """Give a sampler that knows only seed and number, so that a resumed sweep goes on alike."""
        seed = (self.plan.about.sampler_seed + 1000 * len(self._counted())) % 2**32
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
        """List the trials that failed and are not tried again."""
        return [trial for trial in self._current(TrialState.FAIL) if why(trial)]

    def retry(self) -> None:
        """Queue again what has failed before; what was wrong may be mended."""
        with self.turn():
            for trial in self.failures():
                self._queue(trial)

    def tell(self, trial: Trial, value: float, runs: Sequence[str]) -> None:
        """Note what a trial came to.

        Args:
            trial: As it was chosen.
            value: Its mean validation metric.
            runs: Its run folders' names.
        """
        with self.turn():
            trial.entry.set_user_attr(RUNS, list(runs))
            self.study.tell(trial.number, value)

    def fail(self, trial: Trial, reason: str) -> None:
        """Note why a trial has no value."""
        with self.turn():
            trial.entry.set_user_attr(REASON, reason)
            self.study.tell(trial.number, state=TrialState.FAIL)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Be alone among the processes of this sweep while a block runs."""
        with locked(self.locks / "turn", wait=True):
            # Before anyone writes behind it: then it could not be told from damage.
            _cut_unfinished_line(self.journal)
            yield

    def run_lock(self, name: str) -> contextlib.AbstractContextManager[bool]:
        """Be alone at a run: a search may have the same point at work twice."""
        return locked(self.locks / f"run-{name}", wait=True)

    def _current(self, state: TrialState) -> list[FrozenTrial]:
        """List the trials of a state that no other has taken up."""
        taken_up = self._taken_up()
        return [trial for trial in self._trials(state) if trial.number not in taken_up]

    def _taken_up(self) -> set[int]:
        return {t.user_attrs[AGAIN] for t in self._trials() if AGAIN in t.user_attrs}

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _lock(self, number: int) -> Path:
        return self.locks / f"{self.plan.digest()}-{number}"


def _cut_unfinished_line(journal: Path) -> None:
    """Take away half a line that a process wrote before it was killed; nobody has acted on it."""
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with journal.open("r+b") as stream:
            stream.truncate(whole)
