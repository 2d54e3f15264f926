"""Raw texts of data sets and files, each with the split it belongs to.

Nothing is learnt from a held-out document: a training document that a held-out one repeats, whole
or for the most part, is left out, whichever source holds it out.
"""

import abc
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from longdoc.documents import catalog, raw
from longdoc.documents.document import SPLITS, Document
from longdoc.documents.files import Fields
from longdoc.errors import DataError, nearest
from longdoc.pretraining.settings import TextSettings

LONG_PARAGRAPH = 200
"""Characters from which a paragraph that stands in two documents is no coincidence."""
STANDING = 64
"""Held-out documents from which on a paragraph that stands in them all is a standing phrase, such
as a licence's, and says of no two documents that one repeats the other; our choice."""
REPEATED = 0.5
"""Share of a document's characters in such paragraphs from which it repeats another."""

STRETCHES = 300
"""A text that a tokenizer learns from is cut where it is longer than this part of all it reads of
a source; our choice, so that chance evens out."""


@dataclass(frozen=True)
class Text:
    """One document's text and its split."""

    split: str
    text: str


class HeldOut:
    """What validation and test documents of all sources say, of which nothing is learnt."""

    def __init__(self) -> None:
        self.whole: set[bytes] = set()
        self.parts: dict[bytes, list[int]] = {}

    def add(self, document: Document) -> None:
        """Keep a digest of a held-out document's text, and of each of its long paragraphs."""
        number, whole = len(self.whole), _key(document.text)
        if whole in self.whole:  # held out twice, or by two sources
            return
        self.whole.add(whole)
        for key in {key for key, _ in _long_paragraphs(document)}:
            bearers = self.parts.setdefault(key, [])
            if len(bearers) <= STANDING:
                bearers.append(number)

    def repeats(self, document: Document) -> bool:
        """Say whether a document repeats a held-out one, whole or for the most part."""
        if _key(document.text) in self.whole:
            return True
        shared: Counter[int] = Counter()
        for key, size in _long_paragraphs(document):
            bearers = self.parts.get(key, ())
            if len(bearers) <= STANDING:
                for number in bearers:
                    shared[number] += size
        return max(shared.values(), default=0) > REPEATED * len(document.text)


class Source(abc.ABC):
    """Documents with their splits, wherever they come from.

    Attributes:
        name: As the user gave it.
        digest: SHA-256 of what it holds.
        only: The splits that are wanted.
        held_out: What is held out of it and of all sources beside it.
        left_out: Training documents that repeated it when the texts were last read.
    """

    name: str
    digest: str
    only: Collection[str]

    def __init__(self) -> None:
        self.held_out: HeldOut | None = None
        self.left_out = 0

    @abc.abstractmethod
    def documents(self) -> Iterator[tuple[str, Document]]:
        """Give all documents, each with its split."""

    @abc.abstractmethod
    def characters(self) -> int:
        """Count or estimate the characters of all texts."""

    @property
    def notes(self) -> dict[str, int]:
        """What the record says of the texts."""
        return {}

    def __iter__(self) -> Iterator[Text]:
        if self.held_out is None:
            hold_out([self])
        assert self.held_out is not None
        self.left_out = 0
        for split, document in self.documents():
            if split not in self.only:
                continue
            if split == "train" and self.held_out.repeats(document):
                self.left_out += 1
            else:
                yield Text(split, document.text)


def hold_out(sources: Collection[Source]) -> None:
    """Let no source's training documents repeat what any of them holds out.

    Args:
        sources: All that are learnt from or measured together.
    """
    held_out = HeldOut()
    for source in sources:
        for split, document in source.documents():
            if split != "train":
                held_out.add(document)
        source.held_out = held_out


class DataSetTexts(Source):
    """The documents of a catalogue data set."""

    def __init__(self, name: str, only: Collection[str] = SPLITS) -> None:
        super().__init__()
        self.name, self.only = name, only
        self.corpus = catalog.prepare(catalog.DataSettings(dataset=name))
        self.digest = self.corpus.digest()

    @property
    def notes(self) -> dict[str, int]:
        """How many documents the wanted splits have."""
        return {"documents": sum(len(self.corpus.splits[split]) for split in self.only)}

    def documents(self) -> Iterator[tuple[str, Document]]:
        """Give all documents, each with its split."""
        for split in SPLITS:
            for document in self.corpus.splits[split]:
                yield split, document

    def characters(self) -> int:
        """Count the characters of the wanted texts."""
        return sum(len(d.text) for split in self.only for d in self.corpus.splits[split])


class FileTexts(Source):
    """The texts of a file or folder, read anew each time, one after the other."""

    def __init__(self, path: Path, settings: TextSettings, only: Collection[str] = SPLITS) -> None:
        super().__init__()
        self.name, self.path, self.only = str(path), path, only
        self.share = settings.held_out_share
        self.fields = Fields(text=settings.text_field, split=settings.split_field)
        digest = hashlib.sha256()
        for file in raw.text_files(path):
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        self.digest = digest.hexdigest()

    def characters(self) -> int:
        """Estimate the characters of all texts by the bytes of the files."""
        return sum(file.stat().st_size for file in raw.text_files(self.path))

    def documents(self) -> Iterator[tuple[str, Document]]:
        """Give all documents, each with its split; equal texts once in each.

        One that stands in training and is held out, too, is left out of training with the others.
        """
        seen: set[tuple[str, bytes]] = set()
        for split, document in raw.read_raw(self.path, self.fields):
            key = _key(document.text)
            part = split or self._split(key)
            if (part, key) not in seen:
                seen.add((part, key))
                yield part, document

    def _split(self, key: bytes) -> str:
        """Draw a document's split by its text, so that equal texts share one."""
        place = int.from_bytes(key, "big") / 2 ** (8 * len(key))
        if place < self.share:
            return "validation"
        return "test" if place < 2 * self.share else "train"


def open_source(name: str, settings: TextSettings, only: Collection[str] = SPLITS) -> Source:
    """Open a data set by its catalogue name, or a file or folder by its path.

    Args:
        name: One or the other.
        settings: How files are read.
        only: The splits that are wanted.

    Raises:
        DataError: It is neither.
    """
    if name in catalog.DATASETS:
        return DataSetTexts(name, only)
    if Path(name).exists():
        return FileTexts(Path(name), settings, only)
    message = (
        f"texts: there is no file or folder {name}, and no data set of that name; "
        f"{nearest(name, catalog.DATASETS)}"
    )
    raise DataError(message)


def sample(sources: list[Source], characters: int) -> Iterator[str]:
    """Draw training texts for a tokenizer, about as many characters of each source.

    Which are drawn depends on the texts alone. Long texts are cut, so that one does not stand or
    fall as a whole.

    Args:
        sources: Any number.
        characters: At most about so many of each.
    """
    size = max(1, characters // STRETCHES)
    for source in sources:
        share = min(1.0, characters / max(1, source.characters()))
        first, found = "", False
        for text in source:
            if text.split != "train":
                continue
            for start in range(0, len(text.text), size):
                stretch = text.text[start : start + size]
                first = first or stretch
                if int.from_bytes(_key("drawn " + stretch), "big") / 2**64 < share:
                    found = True
                    yield stretch
        if first and not found:
            yield first


def _key(text: str) -> bytes:
    """Give eight bytes that two texts share if they differ in nothing but blanks."""
    plain = " ".join(text.split()).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(plain, digest_size=8).digest()


def _long_paragraphs(document: Document) -> Iterator[tuple[bytes, int]]:
    for paragraph in document.paragraphs:
        if len(paragraph) >= LONG_PARAGRAPH:
            yield _key(paragraph), len(paragraph)
