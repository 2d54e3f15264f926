"""Where tables are printed: names are data, so brackets in them are no markup."""

from rich.console import Console


def console() -> Console:
    """Give a console on standard output that takes every text as it is."""
    return Console(markup=False, emoji=False, highlight=False)
