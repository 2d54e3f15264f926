"""Several processes of one command, which find their work in files that they share."""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from longdoc import locks
from longdoc.errors import DataWarning
from longdoc.progress import Progress
from longdoc.settings import require

LOOK_SECONDS = 1.0


def check(processes: int) -> None:
    """Refuse a number of processes that cannot be.

    Raises:
        SettingsError: It is less than one, or more than one on a system without file locks.
    """
    require(processes >= 1, "processes", "at least 1", processes)
    one = "1 on a system without file locks"
    require(processes == 1 or locks.HAS_LOCKS, "processes", one, processes)


def _begin(work: Callable[..., None], *given: Any) -> None:
    """Begin as one of several processes, which ends with the command that started it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # What is to be said of documents is said where the command itself reads them.
    warnings.simplefilter("ignore", DataWarning)
    work(*given)


def _end_with_parent() -> None:
    """Wait until the command ends, killed or not; who is killed cannot end its processes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def run(
    work: Callable[..., None],
    given: tuple[Any, ...],
    processes: int,
    look: Callable[[], tuple[float, str]],
    progress: Progress,
) -> str:
    """Have several processes work until nothing is left, and tell how far they are together.

    Args:
        work: Called with what is given and the threads each process may use; importable by name.
        given: What can be pickled.
        processes: How many.
        look: Gives the share that is done, and that in words.
        progress: Told both.

    Returns:
        What is to be said of processes that ended early; nothing where none did.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // processes)
    started: list[SpawnProcess] = []
    try:
        for _ in range(processes):
            worker = context.Process(target=_begin, args=(work, *given, threads))
            worker.start()
            started.append(worker)
        while any(worker.is_alive() for worker in started):
            progress(*look())
            started[0].join(LOOK_SECONDS) if started[0].is_alive() else time.sleep(LOOK_SECONDS)
    finally:
        for worker in started:
            worker.terminate()
        for worker in started:
            worker.join()
    codes = [worker.exitcode for worker in started if worker.exitcode]
    if not codes:
        return ""
    memory = ", mostly for want of memory" if -signal.SIGKILL in codes else ""
    return (
        f"{len(codes)} of {processes} processes ended early (exit code {codes[0]}{memory}); "
        f"the same command goes on where they were"
    )
