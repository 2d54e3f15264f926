"""Documents of any length in which one short sentence says what they are about.

For probes of memory: how far from the last token may the evidence stand? And for tests. Topics are
told apart by the order of the same few words, which are words of the filler too, so that counting
words tells nothing.
"""

import math
from dataclasses import dataclass

import numpy as np

from longdoc.documents.document import Card, Corpus, Document, Kind, make_corpus
from longdoc.settings import chosen, require

SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "zo")
KEYS = 4
"""At least so many words follow ``the matter concerns``, more where there are more topics."""
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}

CARD = Card(
    name="synthetic",
    summary="Made-up documents of any length with one telling sentence at a chosen depth",
    tasks={
        "topic": "multi-class: which of several topics the telling sentence names",
        "topics": "multi-label: one to three telling sentences, at the same depth",
    },
    licence="made by longdoc; do what you like",
    address="none needed: made from a seed",
    reference="jelassi2024repeat",
    documents={},
)


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """How synthetic documents are made."""

    documents: int = chosen(
        500, "300 to learn from, 100 to choose by, 100 to score", unit="documents"
    )
    """How many there are, in all splits."""
    words: int = chosen(1000, "about a page and a half; a word is about two tokens", unit="words")
    """How long each is, telling sentence included."""
    depth: float | None = chosen(None, "anywhere", unit="share of the document")
    """Where the telling sentence stands: 0 at the beginning, 1 at the end; by chance without."""
    labels: int = chosen(8, "few enough to be learnt from 300 documents", unit="labels")
    """How many topics there are."""

    def __post_init__(self) -> None:
        require(self.documents >= 10, "data.synthetic.documents", "at least 10", self.documents)
        least = "at least 40"
        require(self.words >= 40, "data.synthetic.words", least, self.words)
        require(2 <= self.labels <= 1000, "data.synthetic.labels", "in 2..1000", self.labels)


def load(task: str, settings: SyntheticSettings, seed: int) -> Corpus:
    """Make the documents; the same settings and seed make the same ones.

    Args:
        task: ``topic`` or ``topics``.
        settings: Number, length, depth, labels.
        seed: Of everything.

    Raises:
        SettingsError: The depth is out of range.
    """
    depth = settings.depth
    require(depth is None or 0 <= depth <= 1, "data.synthetic.depth", "in 0..1", depth)
    generator = np.random.default_rng([seed, settings.labels, settings.words])
    words = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES[:3]]
    keys = _keys(words, settings.labels, generator)
    labels = [f"topic{number:03}" for number in range(settings.labels)]
    made = []
    for number in range(settings.documents):
        several = 1 if task == "topic" else int(generator.integers(1, 4))
        drawn = generator.choice(settings.labels, min(several, settings.labels), replace=False)
        text = _text(words, [keys[label] for label in drawn], settings, generator)
        names = tuple(labels[label] for label in sorted(drawn))
        made.append(Document(f"synthetic-{number}", (text,), names))
    ends = np.cumsum([round(share * len(made)) for share in SHARES.values()])
    parts = np.split(np.arange(len(made)), ends[:-1])
    splits = {split: [made[row] for row in rows] for split, rows in zip(SHARES, parts, strict=True)}
    kind: Kind = "multi-class" if task == "topic" else "multi-label"
    return make_corpus(CARD.name, task, kind, splits, labels=labels)


def _keys(words: list[str], labels: int, generator: np.random.Generator) -> list[str]:
    """Give each label an order of its own of the same few words."""
    size = KEYS
    while math.factorial(size) < labels:
        size += 1
    few = generator.choice(words, size, replace=False).tolist()
    known: dict[str, None] = {}
    while len(known) < labels:
        known.setdefault(" ".join(generator.permutation(few)))
    return list(known)


def _text(
    words: list[str], keys: list[str], settings: SyntheticSettings, generator: np.random.Generator
) -> str:
    """Write filler with the telling sentences after so much of it as is asked for."""
    telling = [word for key in keys for word in ("the matter concerns " + key).split()]
    filler = generator.choice(words, settings.words - len(telling)).tolist()
    depth = float(generator.random()) if settings.depth is None else settings.depth
    place = round(depth * len(filler))
    return " ".join([*filler[:place], *telling, *filler[place:]])
