"""Pieces of Markdown that several pages have."""

from collections.abc import Sequence


def row(cells: Sequence[str]) -> str:
    r"""Write a row; whatever stands in a cell, it stays one.

    Example:
        >>> row(["a|b", "c\nd"])
        '| a\\|b | c d |'
    """
    plain = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return "| " + " | ".join(plain) + " |"


def made_by(command: str) -> str:
    """Name a command, or Python, where a page was made without one."""
    return f"`{command}`" if command else "Python"
