"""What a labelled document is: records only, no reading or writing."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from longdoc.errors import DataError

Kind = Literal["binary", "multi-class", "multi-label"]
"""binary and multi-class: exactly one label a document; multi-label: any number, also none."""

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Document:
    """One labelled document.

    Attributes:
        id: Unique within its corpus.
        paragraphs: The text, in order.
        labels: Names, without repetition, in the order of the data set.
        group: Documents of one group stay in one split; empty means alone.
        evidence: Kind of rationale (silver, gold) to the numbers of the paragraphs it names.
        about: What else is known, such as ``date`` (a year, or ISO 8601) and ``country``.
        heading: Paragraphs at the start that only name the document, such as its title.

    What makes corpora equal is identifier, text and labels; the last three are no part of it.
    """

    id: str
    paragraphs: tuple[str, ...]
    labels: tuple[str, ...]
    group: str = ""
    evidence: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)
    heading: int = 0

    @property
    def text(self) -> str:
        """The paragraphs, one a line."""
        return "\n".join(self.paragraphs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Download:
    """One file that a data set's makers, or a hub, give out.

    Attributes:
        file: Where it is put, below the folder of data sets; the reader finds it there.
        addresses: Tried in order.
        sha256: Of the file; empty where no one published it.
    """

    file: str
    addresses: tuple[str, ...]
    sha256: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What a data set is, for people and for checks.

    Attributes:
        documents: Documents a split as published, by task; the reader checks them.
        checksum: SHA-256 over the official files, whatever they were packed in; empty where the
            text depends on the machine.
        reference: Key of ``references.bib``.
        single: Stem under which a user's copy is kept, where the data set is one JSON file.
        downloads: Files to get; empty where there is no address that gives them to everybody.
        terms: What the licence forbids, as a sentence; empty where it forbids nothing.
    """

    name: str
    summary: str
    tasks: Mapping[str, str]
    licence: str
    address: str
    reference: str
    documents: Mapping[str, Mapping[str, int]]
    checksum: str = ""
    layout: tuple[str, ...] = ()
    single: str = ""
    downloads: tuple[Download, ...] = ()
    terms: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents of one task in their splits.

    Attributes:
        name: The data set's name, or the path of a user's own documents.
        labels: What a model predicts, most frequent in training first; as a rule only labels that
            occur there. A binary task has two, the second being the positive one.
        splits: Documents a split; a split that the data set does not have is empty.
        notes: What the reader noticed (checksums, versions, what was left out), for the record.
        label_names: What labels are called in words, where they are numbers or signs.
    """

    name: str
    task: str
    kind: Kind
    labels: tuple[str, ...]
    splits: Mapping[str, tuple[Document, ...]]
    notes: Mapping[str, object] = dataclasses.field(default_factory=dict)
    label_names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def digest(self) -> str:
        """Give a SHA-256 over every split, text and label: equal digests, equal corpora."""
        return self._digest(self.labels, SPLITS)

    def test_digest(self) -> str:
        """Give a SHA-256 over what is asked at the test, whatever there was to learn from.

        Two corpora with equal ones have the same labels, in any order, and the same test documents.
        """
        return self._digest(tuple(sorted(self.labels)), ("test",))

    def _digest(self, labels: tuple[str, ...], splits: Sequence[str]) -> str:
        sha = hashlib.sha256(f"{self.kind}\n{labels}\n".encode())
        for split in splits:
            for document in self.splits[split]:
                line = (split, document.id, document.labels, document.text)
                sha.update(hashlib.sha256(repr(line).encode("utf-8", "surrogatepass")).digest())
        return sha.hexdigest()

    def truth(self, documents: Sequence[Document]) -> NDArray[np.bool_]:
        """Give the label matrix, shape (documents, labels); labels unknown to training drop out."""
        columns = {label: column for column, label in enumerate(self.labels)}
        matrix = np.zeros((len(documents), len(self.labels)), dtype=bool)
        for row, document in enumerate(documents):
            for label in document.labels:
                if label in columns:
                    matrix[row, columns[label]] = True
        return matrix

    def in_words(self, label: str) -> str:
        """Say what a label is called: its name in words, or itself."""
        return self.label_names.get(label, label)

    def training_counts(self) -> NDArray[np.int64]:
        """Count training documents a label, shape (labels,)."""
        return self.truth(self.splits["train"]).sum(axis=0)

    def describe(self) -> dict[str, object]:
        """Give what a run records of its data: digest, sizes, labels, notes."""
        sizes = {split: len(self.splits[split]) for split in SPLITS}
        unseen = {
            split: sum(1 for d in self.splits[split] if set(d.labels) - set(self.labels))
            for split in SPLITS[1:]
        }
        return {
            "dataset": self.name,
            "task": self.task,
            "kind": self.kind,
            "digest": self.digest(),
            "test_digest": self.test_digest(),
            "documents": sizes,
            "labels": list(self.labels),
            "training_counts": self.training_counts().tolist(),
            "documents_with_a_label_unseen_in_training": unseen,
            "notes": dict(self.notes),
        }


def by_frequency(documents: Sequence[Document], at_least: int = 1) -> tuple[str, ...]:
    """List the labels that at least so many documents bear, most frequent first, then by name."""
    counts = Counter(label for document in documents for label in document.labels)
    kept = [label for label, count in counts.items() if count >= at_least]
    return tuple(sorted(kept, key=lambda label: (-counts[label], label)))


def make_corpus(
    name: str,
    task: str,
    kind: Kind,
    splits: Mapping[str, Sequence[Document]],
    *,
    labels: Sequence[str] | None = None,
    notes: Mapping[str, object] | None = None,
    label_names: Mapping[str, str] | None = None,
) -> Corpus:
    """Put documents together and check what every corpus promises.

    Raises:
        DataError: No training documents, an identifier twice, or a document of a one-label task
            that has another number of labels.
    """
    whole = {split: tuple(splits.get(split, ())) for split in SPLITS}
    if not whole["train"]:
        message = f"{name} has no training documents"
        raise DataError(message)
    seen: set[str] = set()
    for split, documents in whole.items():
        for document in documents:
            if document.id in seen:
                message = f"{name}: document id {document.id!r} occurs twice (again in {split})"
                raise DataError(message)
            seen.add(document.id)
            if kind != "multi-label" and len(document.labels) != 1:
                found = len(document.labels)
                message = f"{name}: {document.id} must have exactly one label; it has {found}"
                raise DataError(message)
    chosen = tuple(labels) if labels is not None else by_frequency(whole["train"])
    if len(chosen) < (1 if kind == "multi-label" else 2):
        message = f"{name}: training needs at least two labels; found {', '.join(chosen) or 'none'}"
        raise DataError(message)
    return Corpus(
        name=name,
        task=task,
        kind=kind,
        labels=chosen,
        splits=whole,
        notes=dict(notes or {}),
        label_names=dict(label_names or {}),
    )
