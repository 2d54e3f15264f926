"""One process a folder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from longdoc.errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "at-work.lock"


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep a second process from working in the same folder (where the system has file locks).

    Raises:
        RunError: Another process is at work in the folder.
    """
    with (folder / LOCK).open("a") as stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                message = f"another process is at work on {folder}; wait for it, or end it"
                raise RunError(message) from error
        yield
