"""Where tables are printed: names are data, so brackets in them are no markup."""

from unicodedata import category

from rich.console import Console

HIDDEN = ("Cc", "Cs")
"""Unicode's categories of what commands a terminal, and of halves of signs."""
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What turns the direction of the text behind it (unicode-bidi, explicit formatting)."""


def console() -> Console:
    """Give a console on standard output that takes every text as it is."""
    return Console(markup=False, emoji=False, highlight=False)


def printable(text: str) -> str:
    r"""Replace what would command a terminal, or turn its line around, instead of being shown.

    Example:
        >>> printable("a\x1b[31mb")
        'a�[31mb'
        >>> printable("Art.\u00a06")
        'Art.\xa06'
    """
    return "".join(
        "\ufffd" if category(sign) in HIDDEN or sign in TURNING else sign for sign in text
    )
