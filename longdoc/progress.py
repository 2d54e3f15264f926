"""What long work tells whoever watches it."""

from typing import Protocol


class Progress(Protocol):
    """Told how far one piece of work is."""

    def __call__(self, share: float, message: str) -> None:
        """Take the share that is done, 0..1, and what is going on."""


def silent(share: float, message: str) -> None:
    """Tell nobody."""
