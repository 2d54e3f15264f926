"""Every error a user can meet, so that the command line can print one sentence and stop."""

import difflib
import errno
import re
import sys
import warnings
from collections.abc import Iterable
from typing import Any


class LongdocError(Exception):
    """Something the user can mend; the message says what, where, and what is allowed."""


class UnknownNameError(LongdocError, KeyError):
    """A name that is not registered."""

    def __str__(self) -> str:
        return str(self.args[0])


class SettingsError(LongdocError, ValueError):
    """A setting that does not exist or has a value that is not allowed."""


class DataError(LongdocError, ValueError):
    """A data file that is missing, damaged, or not what it says."""


class RunError(LongdocError, RuntimeError):
    """A run that cannot go on, or a run folder that is not whole."""


class DataWarning(UserWarning):
    """What is read of documents, but may not be meant so."""


class MissingPartError(LongdocError, ImportError):
    """An optional part that is not installed."""


def say_in_a_sentence() -> None:
    """Let each :class:`DataWarning` be one sentence on standard error, said once."""
    warnings.simplefilter("default", DataWarning)
    usual, said = warnings.showwarning, set[str]()

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, DataWarning):
            usual(message, category, *place, **more)
        elif str(message) not in said:
            said.add(str(message))
            sys.stderr.write(f"longdoc: {message}\n")

    warnings.showwarning = show


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names look like ``name``, as the start of a sentence's end.

    Example:
        >>> nearest("mamba-min", ["mamba-mini", "bert-mini"])
        'did you mean mamba-mini? known: mamba-mini, bert-mini'
        >>> nearest("CB-NTR", ["bce", "cb", "cb_ntr"])
        'did you mean cb_ntr? known: bce, cb, cb_ntr'
    """
    names = list(known)
    alike = {_folded(each): each for each in reversed(names)}
    close = difflib.get_close_matches(_folded(str(name)), list(alike), n=1)
    hint = f"did you mean {alike[close[0]]}? " if close else ""
    return f"{hint}known: {', '.join(names)}"


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: BaseException) -> bool:
    """Say whether there was no room for what was written.

    safetensors and NumPy say so in words of their own, torch hardly.

    Example:
        >>> is_full(OSError(errno.ENOSPC, "No space left on device")), is_full(OSError("other"))
        (True, False)
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    text = str(error)
    in_words = (
        any(f"(os error {number})" in text for number in FULL),
        "inline_container.cc" in text and "unexpected pos" in text,
        isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", text),
    )
    return any(in_words)
