"""Which tokens of a document a backbone gets to see."""

from collections.abc import Sequence
from typing import Literal

Truncation = Literal["head", "head-tail"]


def cut(ids: Sequence[int], room: int, truncation: Truncation, head_tokens: int) -> list[int]:
    """Keep at most ``room`` tokens of a document.

    Args:
        ids: The document's tokens.
        room: Tokens that fit, special ones already taken off.
        truncation: ``head`` keeps the first tokens; ``head-tail`` the first ``head_tokens`` and
            the last of the remaining room.
        head_tokens: For ``head-tail``.

    Source:
        sun2019finetune, Sec. 5.3.1.

    Example:
        >>> cut(range(10), 4, "head-tail", 1)
        [0, 7, 8, 9]
    """
    if len(ids) <= room:
        return list(ids)
    first = room if truncation == "head" else min(head_tokens, room)
    return list(ids[:first]) + list(ids[len(ids) - (room - first) :])
