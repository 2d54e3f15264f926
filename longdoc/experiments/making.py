"""Makes the runs of a plan, alone or together with other processes.

A run belongs to whoever holds its lock; the system frees that of a process that ends. A run that
another process is at work on is left for later, and read when it is there.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from longdoc.documents.document import Corpus
from longdoc.experiments import together
from longdoc.experiments.plan import Plan, PlannedRun
from longdoc.experiments.runner import Runner, reason
from longdoc.experiments.store import Run
from longdoc.progress import Progress, silent
from longdoc.training import workplace

LOCKS = "locks"
MADE, FAILED = ".made", ".failed"
"""Endings of what processes note of a run for each other; why it failed is in the file."""
LOOK_SECONDS = 1.0


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
    """
    together.check(processes)
    locks = root / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    for note in [*locks.glob(f"*{MADE}"), *locks.glob(f"*{FAILED}")]:
        note.unlink(missing_ok=True)  # another command, another try
    if processes > 1:
        everything = len(plan.runs)

        def look() -> tuple[float, str]:
            ended = len([*locks.glob(f"*{MADE}"), *locks.glob(f"*{FAILED}")])
            return min(1.0, ended / everything), f"{ended} of {everything} runs"

        # What a process that was killed has left is made here.
        together.run(work, (plan, root), processes, look, progress)
    return _Making(plan, root).everything(progress)


def work(plan: Plan, root: Path, threads: int) -> None:
    """Make runs of a plan until none is left, as one of several processes.

    Args:
        plan: What is made.
        root: The plan's folder.
        threads: How many this process may use.
    """
    torch.set_num_threads(threads)
    _Making(plan, root).everything(silent)


class _Making:
    """One process at work on a plan."""

    def __init__(self, plan: Plan, root: Path) -> None:
        self.plan, self.locks = plan, root / LOCKS
        self.runner = Runner(root / "runs")
        self.finished: dict[int, Run] = {}
        self.failures: dict[str, str] = {}

    def everything(self, progress: Progress) -> tuple[list[Run], dict[str, str]]:
        """Make all runs, those last that others are at work on."""
        shares = _Shares(self.plan.runs, progress)
        left = list(range(len(self.plan.runs)))
        while left:
            busy = [number for number in left if not self._one(number, shares)]
            if len(busy) == len(left):
                planned = self.plan.runs[busy[0]]
                shares.part(busy[0], _name(planned))(0.0, "another process is at work on it")
                time.sleep(LOOK_SECONDS)
            left = busy
        return [self.finished[number] for number in sorted(self.finished)], self.failures

    def _one(self, number: int, shares: "_Shares") -> bool:
        """Make one run, or note why not; says whether nothing is left to do about it."""
        planned = self.plan.runs[number]
        name, lock = _name(planned), self.locks / planned.settings.digest()
        failed = lock.with_suffix(FAILED)
        with workplace.locked(lock, wait=False) as mine:
            if not mine:
                return False
            if failed.exists():
                self.failures[name] = failed.read_text(encoding="utf-8")
                return True
            tell = shares.part(number, name)
            try:
                shares.learn(self.runner.corpus(planned.settings, tell))
                self.finished[number] = self.runner.make(planned, tell)
                lock.with_suffix(MADE).touch()
            except Exception as error:  # whatever one system does, the others go on
                self.failures[name] = reason(error)
                failed.write_text(self.failures[name], encoding="utf-8")
        return True


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
        return planned.settings.training.epochs * tokens

    def part(self, number: int, name: str) -> Progress:
        """Give what one run tells its own progress to."""

        def tell(share: float, message: str) -> None:
            done = sum(self.sizes[:number]) + share * self.sizes[number]
            self.progress(done / sum(self.sizes), f"{name}: {message}")

        return tell
