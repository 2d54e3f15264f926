"""What a run costs: time, memory, tokens a second."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from longdoc.kernels.allocator import give_back

PERIOD_SECONDS = 0.05


@dataclass
class Cost:
    """Filled in when the measured block ends.

    Attributes:
        seconds: Wall time.
        peak_bytes: Largest resident memory of the process while the block ran; what the process
            held before, the documents among it, is part of it.
    """

    seconds: float = 0.0
    peak_bytes: int = 0


@contextlib.contextmanager
def measured() -> Iterator[Cost]:
    """Measure wall time and peak memory of a block.

    On Linux the kernel keeps the peak (it is reset first); elsewhere memory is looked at twenty
    times a second.

    Example:
        >>> with measured() as cost:
        ...     block = bytearray(10_000_000)
        >>> cost.seconds > 0 and cost.peak_bytes > 10_000_000
        True
    """
    cost = Cost()
    give_back()
    kernel = _reset_peak()
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(cost, stop), daemon=True)
    if not kernel:
        watcher.start()
    start = time.perf_counter()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - start
        stop.set()
        cost.peak_bytes = _kernel_peak() if kernel else max(cost.peak_bytes, _resident())


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _watch(cost: Cost, stop: threading.Event) -> None:
    while not stop.wait(PERIOD_SECONDS):
        cost.peak_bytes = max(cost.peak_bytes, _resident())


def _reset_peak() -> bool:
    """Set the kernel's high-water mark to the present; says whether that worked."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return _kernel_peak() > 0


def _kernel_peak() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else 0
