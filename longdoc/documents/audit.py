"""What one should know of documents before one trusts a score on them.

Copies within and across splits, sentences and names that give labels away, documents without a
label, damaged characters, and lengths that stand out. Everything is counted; examples are
identifiers, never texts.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html.entities import html5
from itertools import combinations
from typing import Any

import numpy as np

from longdoc.documents import leaks, near_copies
from longdoc.documents.document import SPLITS, Corpus, Document, by_frequency
from longdoc.progress import Progress, silent

EXAMPLES = 10
"""Identifiers that are given for each finding."""
NEAR = 0.8
"""Resemblance of near copies: our choice, that of ``python-imports``."""
NAMING_DOCUMENTS = 2000
"""Training documents, evenly spread, in which label names are looked for."""
SHORTEST_NAME, LONGEST_NAME = 4, 4
"""Letters that a label's name has at least, and words that it has at most, to be looked for."""
FAR = 3.0
"""Interquartile ranges, of the logarithm of the length, beyond which a length is far out."""
NAMED = [name for name in html5 if name.endswith(";")]
"""HTML's names of characters."""
DAMAGE = {
    "replacement character": re.compile("\ufffd"),
    "UTF-8 read as Latin-1 or Windows-1252": re.compile(
        "[\u00c3\u00c2][\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u0160\u0152]"
        "|\u00e2(?:\u20ac|\u0080)[\u0080-\u00bf\u2122\u0153\u02dc\u201c\u201d]"
    ),
    "control character": re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"),
    "HTML entity or tag": re.compile(
        rf"&(?:{'|'.join(NAMED)}|#\d{{2,6}};|#[xX][0-9A-Fa-f]{{2,5}};)"
        r"|</?(?:p|br|div|span|b|i|table|tr|td|li|ul|h\d)\s*/?>"
    ),
}
"""Kind of damage to how it is recognised."""
Counts = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Documents that repeat others.

    Attributes:
        groups: Texts that stand in more than one document.
        copies: Documents beyond the first of each group.
        within: Copies beyond the first of a group in the same split, by split.
        across: Groups that have documents in both of two splits, as ``train & test``.
        repeated: Validation and test documents that training has a copy of, by split.
        different_labels: Groups whose documents do not all bear the same labels.
        examples: Identifiers of some groups, those across splits first.
    """

    groups: int
    copies: int
    within: Counts
    across: Counts
    repeated: Counts
    different_labels: int
    examples: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Documents with something, by split, and a few of their identifiers."""

    documents: Counts
    examples: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Everything that was found; see the fields' names, and :func:`audit`.

    Attributes:
        dates: Split to earliest and latest date, where dates are known.
        unlabelled: Documents without a label.
        unseen: Labels of validation or test documents that no training document bears.
        single: Labels that one training document bears.
        leaks: Kind of sentence that states an outcome to the documents with one.
        named: Share of the labels of documents whose name stands in the document; the same for
            labels that the documents do not bear; and the labels whose names tell most.
        words: Quantiles of the length in words, by split.
        far_out: Documents that are far shorter or longer than the others.
    """

    name: str
    task: str
    documents: Counts
    labels: int
    dates: Mapping[str, tuple[str, str]]
    unlabelled: Finding
    empty: Finding
    unseen: int
    single: int
    exact: Copies
    near: Copies
    leaks: Mapping[str, Finding]
    named: Mapping[str, Any]
    damage: Mapping[str, Finding]
    words: Mapping[str, Mapping[str, int]]
    far_out: Mapping[str, Finding]


Placed = tuple[str, Document]


def audit(corpus: Corpus, progress: Progress = silent) -> Audit:
    """Look through a corpus as its makers ship it (for ECHR: with ``leaks="keep"``).

    Args:
        corpus: Any; texts are compared without their headings.
        progress: Told how far it is.
    """
    placed = [(split, d) for split in SPLITS for d in corpus.splits[split]]
    progress(0.0, "exact copies")
    exact = _exact(placed)
    near = _near(placed, exact, progress)
    progress(0.85, "leaks, damage, lengths")
    train = set(by_frequency(corpus.splits["train"]))
    counts = Counter(label for d in corpus.splits["train"] for label in d.labels)
    held_out = {label for split, d in placed if split != "train" for label in d.labels}
    signs = [_signs(document) for _, document in placed]

    def finding(sign: str) -> Finding:
        return _finding([p for p, found in zip(placed, signs, strict=True) if sign in found])

    return Audit(
        name=corpus.name,
        task=corpus.task,
        documents={split: len(corpus.splits[split]) for split in SPLITS},
        labels=len(corpus.labels),
        dates=_dates(corpus),
        unlabelled=finding("no label"),
        empty=finding("no text"),
        unseen=len(held_out - train),
        single=sum(1 for n in counts.values() if n == 1),
        exact=_copies(placed, exact),
        near=_copies(placed, near),
        leaks={name: finding(name) for name in leaks.PATTERNS},
        named=_named(corpus),
        damage={name: finding(name) for name in DAMAGE},
        **_lengths(placed),
    )


def _signs(document: Document) -> set[str]:
    """Name what is wrong with one document."""
    text = document.text
    found = {name for name, pattern in DAMAGE.items() if pattern.search(text)}
    found |= {name for paragraph in document.paragraphs for name in leaks.found(paragraph)}
    if not document.labels:
        found.add("no label")
    if not text.strip():
        found.add("no text")
    return found


def _finding(found: Sequence[Placed]) -> Finding:
    return Finding(
        documents=dict(Counter(split for split, _ in found)),
        examples=[document.id for _, document in found[:EXAMPLES]],
    )


def _dates(corpus: Corpus) -> dict[str, tuple[str, str]]:
    known = {
        split: [d.about["date"] for d in part if d.about.get("date")]
        for split, part in corpus.splits.items()
    }
    return {split: _first_and_last(dates) for split, dates in known.items() if dates}


def _first_and_last(dates: Sequence[str]) -> tuple[str, str]:
    try:
        ordered = sorted(dates, key=_instant)
    except ValueError:
        ordered = sorted(dates)
    return ordered[0], ordered[-1]


def _instant(date: str) -> datetime:
    """Read a year, or a date as ISO 8601 has it; one without a time zone counts as universal."""
    if len(date) == 4:
        return datetime(int(date), 1, 1, tzinfo=UTC)
    found = datetime.fromisoformat(date)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _body(document: Document) -> str:
    """Give the words without the heading; of a document that has nothing else, with it."""
    body = " ".join(" ".join(document.paragraphs[document.heading :]).split())
    return body or " ".join(document.text.split())


def _exact(placed: Sequence[Placed]) -> list[list[int]]:
    """Group documents with the same words in the same order, by their places."""
    together: dict[bytes, list[int]] = {}
    for place, (_, document) in enumerate(placed):
        body = _body(document) or f"\0{place}"  # documents without a word are no copies
        digest = hashlib.sha256(body.encode("utf-8", "replace")).digest()
        together.setdefault(digest, []).append(place)
    return list(together.values())


def _near(
    placed: Sequence[Placed], exact: Sequence[Sequence[int]], progress: Progress
) -> list[list[int]]:
    """Group documents that are exact or near copies, by their places."""

    def texts() -> Iterator[str]:
        return (_body(placed[group[0]][1]) for group in exact)

    found = near_copies.groups(
        texts(), NEAR, lambda share, message: progress(0.85 * share, message), len(exact)
    )
    joined = [sorted(place for head in heads for place in exact[head]) for heads in found]
    inside = {head for heads in found for head in heads}
    return joined + [list(group) for head, group in enumerate(exact) if head not in inside]


def _copies(placed: Sequence[Placed], grouped: Sequence[Sequence[int]]) -> Copies:
    """Count what groups of copies mean for the splits; groups of one are no copies."""
    within: Counter[str] = Counter()
    across: Counter[str] = Counter()
    repeated: Counter[str] = Counter()
    different = copies = 0
    several = [group for group in grouped if len(group) > 1]
    for group in several:
        counts = Counter(placed[place][0] for place in group)
        copies += len(group) - 1
        within.update({split: n - 1 for split, n in counts.items() if n > 1})
        across.update(f"{a} & {b}" for a, b in combinations([s for s in SPLITS if s in counts], 2))
        if "train" in counts:
            repeated.update({s: n for s, n in counts.items() if s != "train"})
        different += len({frozenset(placed[place][1].labels) for place in group}) > 1
    first = sorted(several, key=lambda group: -len({placed[place][0] for place in group}))
    return Copies(
        groups=len(several),
        copies=copies,
        within=dict(within),
        across=dict(across),
        repeated=dict(repeated),
        different_labels=different,
        examples=[[placed[p][1].id for p in group[:EXAMPLES]] for group in first[:EXAMPLES]],
    )


def _named(corpus: Corpus) -> dict[str, Any]:
    """Say how often documents name their labels, and labels that they do not bear."""
    names = {
        label: tuple(re.findall(r"\w+", corpus.in_words(label).lower())) for label in corpus.labels
    }
    sought: dict[tuple[str, ...], list[str]] = {}
    for label, name in names.items():
        if len(name) <= LONGEST_NAME and sum(map(len, name)) >= SHORTEST_NAME:
            sought.setdefault(name, []).append(label)
    labels = {label for same in sought.values() for label in same}
    train = corpus.splits["train"]
    sample = train[:: max(1, -(-len(train) // NAMING_DOCUMENTS))] if sought else ()
    hits, misses, borne = Counter[str](), Counter[str](), Counter[str]()
    for document in sample:
        words = re.findall(r"\w+", document.text.lower())
        runs = {
            run
            for width in range(1, LONGEST_NAME + 1)
            for run in zip(*(words[i:] for i in range(width)), strict=False)
        }
        seen = {label for run in runs & sought.keys() for label in sought[run]}
        own = labels & set(document.labels)
        borne.update(own)
        hits.update(own & seen)
        misses.update(seen - own)
    others = len(sample) * len(labels) - borne.total()
    telling = sorted(hits, key=lambda label: (-hits[label], label))[:EXAMPLES]
    return {
        "documents": len(sample),
        "labels": len(labels),
        "own": hits.total() / borne.total() if borne else None,
        "others": misses.total() / others if others else None,
        "examples": {
            label: {"name": corpus.in_words(label), "named": hits[label],
                    "borne": borne[label], "named without": misses[label]}
            for label in telling
        },
    }  # fmt: skip


def _lengths(placed: Sequence[Placed]) -> dict[str, Any]:
    """Give quantiles of lengths in words, and who is far out on a logarithmic scale."""
    counts = np.array([len(d.text.split()) for _, d in placed])
    splits = np.array([split for split, _ in placed])
    shares = {"shortest": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "p99": 0.99, "longest": 1.0}
    words = {
        split: {
            name: int(np.quantile(counts[splits == split], share, method="inverted_cdf"))
            for name, share in shares.items()
        }
        for split in SPLITS
        if (splits == split).any()
    }
    logs = np.log(np.maximum(counts, 1))
    low, high = np.quantile(logs, [0.25, 0.75])
    sides = {
        "short": logs < low - FAR * (high - low),
        "long": logs > high + FAR * (high - low),
    }
    far = {}
    for name, side in sides.items():
        order = np.argsort(counts if name == "short" else -counts, kind="stable")
        ordered = [placed[place] for place in order.tolist() if side[place]]
        far[name] = _finding(ordered)
    return {"words": words, "far_out": far}
