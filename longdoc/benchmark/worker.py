"""A process that runs one case whenever it is told to, and says how long it took.

Each case has a process of its own, so that its peak memory is its own; its parent lets several take
turns, so that what else happens on the machine happens to all of them.
"""

import contextlib
import json
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

import torch

from longdoc.benchmark.cases import Case, build
from longdoc.errors import RunError
from longdoc.kernels.allocator import keep_freed_memory

GIGABYTE = 1e9


class Worker:
    """The parent's side of such a process.

    Args:
        case: What it runs.
        threads: Of torch; as many as it takes by itself without.

    Raises:
        RunError: It ended before it was told to; the message has its last words.
    """

    def __init__(self, case: Case, threads: int | None = None) -> None:
        self.case = case
        self.seconds: list[float] = []
        order = json.dumps({**asdict(case), "threads": threads})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "longdoc.benchmark.worker", order],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._answer()

    def run(self) -> float:
        """Run the case once; gives seconds."""
        self.seconds.append(float(self._ask("run")))
        return self.seconds[-1]

    def end(self) -> float:
        """End the process; gives its peak memory in GB."""
        peak = float(self._ask("end"))
        self._process.communicate()
        return peak

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, word: str) -> str:
        assert self._process.stdin is not None
        # A process that has ended says so by having no answer.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, words = self._process.communicate()
            raise RunError(how_it_ended(str(self.case), self._process.returncode, words))
        return line.strip()


def how_it_ended(what: str, code: int, words: str) -> str:
    """Say how a process ended that should not have: by which code or signal, with which words."""
    if code >= 0:
        return f"{what} ended with code {code}: {words[-400:]}"
    known = -code in [number.value for number in signal.Signals]
    name = signal.Signals(-code).name if known else f"signal {-code}"
    room = "; the machine may have no memory left" if name == "SIGKILL" else ""
    last = f": {words[-400:]}" if words else ""
    return f"{what} was ended by {name}{room}{last}"


def serve(order: dict[str, Any]) -> None:
    """Build a case, run it once unmeasured, then answer each line of the standard input."""
    threads = order.pop("threads")
    if threads:
        torch.set_num_threads(threads)
    case = Case(**{**order, "tokens": tuple(order["tokens"])})
    if case.keeps_memory:
        keep_freed_memory()
    run = build(case)
    run()
    _say("ready")
    for line in sys.stdin:
        if line.strip() == "end":
            break
        start = time.perf_counter()
        run()
        _say(time.perf_counter() - start)
    _say(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIGABYTE)


def _say(answer: object) -> None:
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
