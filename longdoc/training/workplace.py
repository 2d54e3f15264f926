"""The folder of long work: one process in it, files that are whole, time that adds up."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from longdoc.errors import RunError
from longdoc.locks import locked
from longdoc.progress import Progress

LOCK = "at-work.lock"
ELAPSED = "elapsed.json"
NOTED_SECONDS = 5


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep a second process from working in the same folder (where the system has file locks).

    Raises:
        RunError: Another process is at work in the folder.
    """
    with locked(folder / LOCK, wait=False) as mine:
        if not mine:
            message = f"another process is at work on {folder}; wait for it, or end it"
            raise RunError(message)
        yield


def write_json(file: Path, value: object) -> None:
    """Write JSON under another name and rename it, so that the file is whole or absent."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        unfinished.write_text(text + "\n", encoding="utf-8")
        unfinished.replace(file)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def elapsed(folder: Path) -> float:
    """Give the seconds that work in a folder had taken before it was interrupted."""
    file = folder / ELAPSED
    return float(json.loads(file.read_text())["seconds"]) if file.exists() else 0.0


def clocked(progress: Progress, folder: Path, *, writes: bool = True) -> Progress:
    """Note now and then how long work has taken, so that an interrupted one adds up.

    Args:
        progress: Told what the result is told.
        folder: Where the work is done.
        writes: Whether this process is the one that writes.
    """
    before, start = elapsed(folder), time.monotonic()
    last = start

    def tell(share: float, message: str) -> None:
        nonlocal last
        if writes and time.monotonic() - last > NOTED_SECONDS:
            last = time.monotonic()
            write_json(folder / ELAPSED, {"seconds": before + last - start})
        progress(share, message)

    return tell


def trains_together() -> bool:
    """Say whether torchrun started several processes for one training."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main_process() -> bool:
    """Say whether this process writes; of those that torchrun started only the first does."""
    return os.environ.get("RANK", "0") == "0"
