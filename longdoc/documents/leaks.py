"""Sentences of a judgment that state its outcome, and what is done with them.

The facts of a case are meant to be read before the court decides; now and then a sentence of the
decision, of another court or of an earlier judgment stands among them and names a violation.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

Handling = Literal["mask", "drop", "keep"]
MASK = "[MASKED]"

PATTERNS = {
    "outcome": re.compile(r"there\s+has\s+been\s+(?:a|no)\s+violation\s+of\s+article", re.I),
    "allegation": re.compile(r"alleged\s+violation\s+of\s+article", re.I),
    "reported": re.compile(r"there\s+had\s+been\s+(?:a|no)\s+violation\s+of\s+article", re.I),
}
"""What a leak is called, and how it is recognised. ``reported`` is what the Commission, another
court or a party is said to have held; the Commission's opinions are on the very case."""

END = re.compile(r"[.!?][\"\u201d\u2019»)\]]*\s+(?=[\"\u201c\u2018«(\[]*[^\W\d_a-z])")
"""Where a sentence ends: a stop, and a capital after it (so not ``no. 5`` or ``art. 6``)."""


def found(text: str) -> Counter[str]:
    """Count the sentences of each kind of leak.

    Example:
        >>> found("It held that there had been none. There has been a violation of Article 6 § 1.")
        Counter({'outcome': 1})
    """
    counted: Counter[str] = Counter()
    if not _may_leak(text):
        return counted
    for sentence in _sentences(text):
        counted.update(name for name, pattern in PATTERNS.items() if pattern.search(sentence))
    return counted


def without(paragraphs: Sequence[str], handling: Handling) -> tuple[str, ...]:
    """Mask the sentences that leak (``mask``), take them out (``drop``), or leave them (``keep``).

    A paragraph that has nothing left is taken out.

    Example:
        >>> text = "He appealed. There has been no violation of Article 8. He was told so."
        >>> without([text], "mask")
        ('He appealed. [MASKED] He was told so.',)
        >>> without([text], "drop")
        ('He appealed. He was told so.',)
    """
    if handling == "keep":
        return tuple(paragraphs)
    cleaned = [_without(paragraph, MASK if handling == "mask" else "") for paragraph in paragraphs]
    return tuple(
        after
        for before, after in zip(paragraphs, cleaned, strict=True)
        if after.strip() or not before.strip()
    )


def _may_leak(text: str) -> bool:
    """Say quickly of most texts that they do not leak."""
    return any(pattern.search(text) for pattern in PATTERNS.values())


def _without(paragraph: str, instead: str) -> str:
    if not _may_leak(paragraph):
        return paragraph
    kept = []
    for sentence in _sentences(paragraph):
        if _may_leak(sentence):
            space = sentence[len(sentence.rstrip()) :]
            kept.append(instead + space if instead else "")
        else:
            kept.append(sentence)
    return "".join(kept).rstrip() if paragraph == paragraph.rstrip() else "".join(kept)


def _sentences(text: str) -> list[str]:
    """Cut text into sentences, each with the blanks after it."""
    cuts = [0, *(match.end() for match in END.finditer(text)), len(text)]
    return [text[a:b] for a, b in pairwise(cuts) if b > a]
