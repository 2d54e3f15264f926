"""Every error a user can meet, so that the command line can print one sentence and stop."""

import difflib
from collections.abc import Iterable


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


class MissingPartError(LongdocError, ImportError):
    """An optional part that is not installed."""


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
