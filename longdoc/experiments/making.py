"""Makes the runs of a plan, alone or together with other processes.

A run belongs to whoever holds its lock; the system frees that of a process that ends. A run that
another process is at work on is left for later; then it is read, or made if the other did not.
Where the file system has no locks, one command alone may work on a plan.
"""

import contextlib
import hashlib
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from longdoc.documents.document import Corpus
from longdoc.errors import LongdocError, RunError
from longdoc.experiments import run, together
from longdoc.experiments.plan import Plan, PlannedRun
from longdoc.experiments.runner import Runner, reason
from longdoc.experiments.store import Run
from longdoc.locks import locked
from longdoc.progress import Progress, silent
from longdoc.training import workplace

LOCKS = "locks"
SHOWN = 5
"""Labels that a message names."""
MADE, FAILED = "made", "failed"
"""What the processes of one command note of a run for each other; why it failed is in the file."""


def make_all(
    plan: Plan, root: Path, progress: Progress, processes: int = 1
) -> tuple[list[Run], dict[str, str]]:
    """Make what is not there yet; runs come in the plan's order.

    Args:
        plan: What is made.
        root: The plan's folder.
        progress: Told how far all of it is.
        processes: How many to have at work at once.

    Returns:
        The runs, and of those that failed their names and the reasons.

    Raises:
        SettingsError: Too few processes, or several on a system without file locks.
        RunError: A process was killed, and something is left; or systems would be tested on
            different documents or labels.
    """
    together.check(processes)
    making = _Making(plan, root, secrets.token_hex(8))
    making.locks.mkdir(parents=True, exist_ok=True)
    try:
        making.check_asked(progress)
        if processes > 1:
            with contextlib.suppress(LongdocError):  # said of the runs that need them
                making.runner.corpus(plan.runs[0].settings, progress)
            early = together.run(
                work, (plan, root, making.command), processes, making.state, progress
            )
            if early and making.ended() < len(plan.runs):
                raise RunError(early)
        return making.everything(progress)
    finally:
        for note in making.notes():
            note.unlink(missing_ok=True)


def cannot_run(plan: Plan) -> dict[str, str]:
    """Give the reason why, of each run of a plan that is known to fail before it is made."""
    found = {}
    for planned in plan.runs:
        try:
            run.check(planned.settings)
        except Exception as error:  # whatever one system does, the others go on
            found[_name(planned)] = reason(error)
    return found


def work(plan: Plan, root: Path, command: str, threads: int) -> None:
    """Make runs of a plan until none is left, as one of several processes.

    Args:
        plan: What is made.
        root: The plan's folder.
        command: Names the command; what failed in one of its processes the others do not try again.
        threads: How many this process may use.
    """
    torch.set_num_threads(threads)
    _Making(plan, root, command).everything(silent)


def _difference(*two: tuple[str, Corpus]) -> str:
    """Say what two systems, each with its documents, would be asked otherwise at the test."""
    (one, first), (other, second) = two
    parts = []
    for (name, own), rest in zip(two, (second, first), strict=True):
        labels = [label for label in own.labels if label not in rest.labels]
        if labels:
            parts.append(f"{', '.join(map(repr, labels[:SHOWN]))} is no label but of {name}")
    what = "the test documents, their labels or the kind of task are not the same"
    if parts:
        what = (
            f"{'; '.join(parts)}. A label is known where training documents have it; in folds "
            f"validation is learnt as well (data.folds, data.min_train_documents)"
        )
    return f"{one} and {other} would be tested on different documents or labels: {what}"


class _Making:
    """One process at work on a plan."""

    def __init__(self, plan: Plan, root: Path, command: str) -> None:
        self.plan, self.locks, self.command = plan, root / LOCKS, command
        self.runner = Runner(root / "runs")
        self.finished: dict[int, Run] = {}
        self.failures: dict[str, str] = {}

    def check_asked(self, progress: Progress) -> None:
        """Refuse systems that would not be asked the same before any of them is trained.

        Raises:
            RunError: Which, and what is different.
        """
        first: tuple[str, Corpus] | None = None
        kinds: dict[str, PlannedRun] = {}
        idle = cannot_run(self.plan)
        for planned in self.plan.runs:
            if _name(planned) not in idle:
                kinds.setdefault(repr(planned.settings.data), planned)
        for planned in kinds.values() if len(kinds) > 1 else ():
            try:
                corpus = self.runner.corpus(planned.settings, progress)
            except Exception:  # whatever one system does, the others go on; it is said of its runs
                continue
            first = first or (planned.system, corpus)
            if corpus.test_digest() != first[1].test_digest():
                raise RunError(_difference(first, (planned.system, corpus)))

    def notes(self) -> list[Path]:
        """List what this command's processes have noted."""
        return list(self.locks.glob(f"*.{self.command}.*"))

    def ended(self) -> int:
        """Count the runs that need no more work, or can have none."""
        return len(self.notes())

    def state(self) -> tuple[float, str]:
        """Give the share of the runs that have ended, and that in words."""
        ended, everything = self.ended(), len(self.plan.runs)
        return ended / everything, f"{ended} of {everything} runs"

    def everything(self, progress: Progress) -> tuple[list[Run], dict[str, str]]:
        """Make all runs, those last that others are at work on, and then what needs the others."""
        shares = _Shares(self.plan.runs, progress)
        left = list(range(len(self.plan.runs)))
        while left:
            # An ensemble's members may be runs of this plan.
            ready = [n for n in left if not self.plan.runs[n].settings.ensemble.members] or left
            done = {number for number in ready if self._one(number, shares)}
            if not done:
                tell = shares.part(ready[0], _name(self.plan.runs[ready[0]]))
                tell(0.0, "another process is at work on it")
                time.sleep(together.LOOK_SECONDS)
            left = [number for number in left if number not in done]
        return [self.finished[number] for number in sorted(self.finished)], self.failures

    def _one(self, number: int, shares: "_Shares") -> bool:
        """Make one run, or note why not; says whether nothing is left to do about it."""
        planned = self.plan.runs[number]
        # By name as well: systems of a plan may have the same settings, in folders of their own.
        name = hashlib.sha256(planned.system.encode()).hexdigest()[:8]
        key = f"{planned.settings.digest()}-{name}"
        failed = self.locks / f"{key}.{self.command}.{FAILED}"
        with self._lock(key) as mine:
            if not mine:
                return False
            if failed.exists():
                self.failures[_name(planned)] = failed.read_text(encoding="utf-8")
                return True
            tell = shares.part(number, _name(planned))
            try:
                shares.learn(self.runner.corpus(planned.settings, tell))
                self.finished[number] = self.runner.make(planned, tell)
                note, why = failed.with_suffix(f".{MADE}"), ""
            except Exception as error:  # whatever one system does, the others go on
                note, why = failed, reason(error)
                self.failures[_name(planned)] = why
            with contextlib.suppress(OSError):  # a full disk must not end the others too
                note.write_text(why, encoding="utf-8")
        return True

    def _lock(self, key: str) -> contextlib.AbstractContextManager[bool]:
        """Hold a run's lock; not where the processes of one training make it together."""
        if workplace.trains_together():
            return contextlib.nullcontext(True)
        return locked(self.locks / key, wait=False)


def _name(planned: PlannedRun) -> str:
    return f"{planned.system} (seed {planned.settings.training.seed})"


class _Shares:
    """How much of a plan each run is, so that one bar can tell how long the whole will take."""

    def __init__(self, runs: Sequence[PlannedRun], progress: Progress) -> None:
        self.runs, self.progress = runs, progress
        self.sizes = [self._size(planned, 1000.0) for planned in runs]

    def learn(self, corpus: Corpus) -> None:
        """Take the documents' real lengths into account, a token being about four characters."""
        lengths = np.array([sum(map(len, d.paragraphs)) / 4 for d in corpus.splits["train"]])
        self.sizes = [
            self._size(p, float(np.minimum(lengths, p.settings.tokens.max_tokens).mean()))
            for p in self.runs
        ]

    @staticmethod
    def _size(planned: PlannedRun, tokens: float) -> float:
        if planned.settings.has_no_backbone():
            return 20.0
        folds = planned.settings.data.folds if planned.settings.is_cross_fitted() else None
        return planned.settings.training.epochs * tokens * (folds or 1)

    def part(self, number: int, name: str) -> Progress:
        """Give what one run tells its own progress to."""

        def tell(share: float, message: str) -> None:
            done = sum(self.sizes[:number]) + share * self.sizes[number]
            self.progress(done / sum(self.sizes), f"{name}: {message}")

        return tell
