"""A progress bar on a terminal, a line now and then where there is none."""

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from longdoc.progress import Progress

LINE_SECONDS = 20.0


def remaining(share: float, seconds: float) -> str:
    """Say how long is left, judging by the pace so far.

    Example:
        >>> remaining(0.25, 60.0)
        '3 min left'
    """
    if share < 0.01 or seconds < 5:
        return ""
    left = seconds / share - seconds
    return f"{left / 60:.0f} min left" if left > 90 else f"{left:.0f} s left"


@contextlib.contextmanager
def shown() -> Iterator[Progress]:
    """Show progress on standard error while a block runs."""
    console = Console(stderr=True)
    with _bar(console) if console.is_terminal else _lines() as progress:
        yield progress


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    columns = (
        BarColumn(bar_width=24), TaskProgressColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"), TextColumn("{task.description}", markup=False),
    )  # fmt: skip
    start = time.monotonic()
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, left="")

        def tell(share: float, message: str) -> None:
            left = remaining(share, time.monotonic() - start)
            bar.update(task, completed=share, description=message, left=left)

        yield tell


@contextlib.contextmanager
def _lines() -> Iterator[Progress]:
    start = time.monotonic()
    last, before = -LINE_SECONDS, ""

    def tell(share: float, message: str) -> None:
        nonlocal last, before
        now, what = time.monotonic(), message.split(":")[0]
        if now - last < LINE_SECONDS and what == before:
            return
        last, before = now, what
        left = remaining(share, now - start)
        sys.stderr.write(f"{share:4.0%}  {now - start:4.0f} s  {left:12}  {message}\n")
        sys.stderr.flush()

    yield tell
