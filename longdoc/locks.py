"""Locks between processes: a file that one of them holds."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HAS_LOCKS = fcntl is not None
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system without locks answers, as of some networks."""


@contextlib.contextmanager
def locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a file's lock while a block runs; the system frees it when the process ends.

    Args:
        file: Made if it is not there.
        wait: Whether to wait for another process that holds it.

    Yields:
        Whether the lock is held; always where the system, or the file system, has no file locks.
    """
    with file.open("a") as stream:
        mine = True
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                mine = False
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
        yield mine
