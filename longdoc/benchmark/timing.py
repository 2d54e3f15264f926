"""Times a function within this process."""

import time
from collections.abc import Callable
from typing import Any


def seconds_of(run: Callable[[], Any], rounds: int) -> list[float]:
    """Run a function once unmeasured, then ``rounds`` times; gives the seconds of each."""
    run()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds
