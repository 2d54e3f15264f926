"""Raw texts of data sets and files, each with the split it belongs to.

Nothing is learnt from a held-out document: a training document that a held-out one repeats, whole
or for the most part, is left out.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from longdoc.documents import catalog, raw
from longdoc.documents.document import SPLITS, Corpus, Document
from longdoc.documents.files import Fields
from longdoc.errors import DataError, nearest
from longdoc.pretraining.settings import TextSettings

LONG_PARAGRAPH = 200
"""Characters from which a paragraph that stands in two documents is no coincidence."""
REPEATED = 0.5
"""Share of a document's characters in such paragraphs from which it repeats another."""


@dataclass(frozen=True)
class Text:
    """One document's text and its split."""

    split: str
    text: str


class DataSetTexts:
    """The documents of a catalogue data set."""

    def __init__(self, name: str, only: Collection[str] = SPLITS) -> None:
        self.name = name
        corpus = catalog.prepare(catalog.DataSettings(dataset=name))
        self.digest = corpus.digest()
        self.left_out = 0
        self.texts = [text for text in self._distinct(corpus) if text.split in only]
        self.notes = {"documents": len(self.texts), "repeating_held_out": self.left_out}

    def _distinct(self, corpus: Corpus) -> Iterator[Text]:
        held_out = [d for split in SPLITS[1:] for d in corpus.splits[split]]
        whole = {_key(document.text) for document in held_out}
        parts = {key for document in held_out for key, _ in _long_paragraphs(document)}
        for split in SPLITS:
            for document in corpus.splits[split]:
                if split == "train" and _repeats(document, whole, parts):
                    self.left_out += 1
                else:
                    yield Text(split, document.text)

    def characters(self) -> int:
        """Count the characters of all texts."""
        return sum(len(text.text) for text in self.texts)

    def __iter__(self) -> Iterator[Text]:
        return iter(self.texts)


class FileTexts:
    """The texts of a file or folder, read anew each time, one after the other."""

    def __init__(self, path: Path, settings: TextSettings, only: Collection[str] = SPLITS) -> None:
        self.name, self.path, self.only = str(path), path, only
        self.share = settings.held_out_share
        self.fields = Fields(text=settings.text_field, split=settings.split_field)
        self.notes: dict[str, int] = {}
        digest = hashlib.sha256()
        for file in raw.text_files(path):
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        self.digest = digest.hexdigest()

    def characters(self) -> int:
        """Estimate the characters of all texts by the bytes of the files."""
        return sum(file.stat().st_size for file in raw.text_files(self.path))

    def __iter__(self) -> Iterator[Text]:
        seen: set[bytes] = set()
        for split, document in raw.read_raw(self.path, self.fields):
            key = _key(document.text)
            if key not in seen:
                seen.add(key)
                split = split or self._split(key)
                if split in self.only:
                    yield Text(split, document.text)

    def _split(self, key: bytes) -> str:
        """Draw a document's split by its text, so that equal texts share one."""
        place = int.from_bytes(key, "big") / 2 ** (8 * len(key))
        if place < self.share:
            return "validation"
        return "test" if place < 2 * self.share else "train"


Source = DataSetTexts | FileTexts


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

    Which documents are drawn depends on their texts alone.

    Args:
        sources: Any number.
        characters: At most about so many of each.
    """
    for source in sources:
        share = min(1.0, characters / max(1, source.characters()))
        for text in source:
            drawn = int.from_bytes(_key("drawn " + text.text), "big") / 2**64
            if text.split == "train" and drawn < share:
                yield text.text


def _key(text: str) -> bytes:
    """Give eight bytes that two texts share if they differ in nothing but blanks."""
    plain = " ".join(text.split()).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(plain, digest_size=8).digest()


def _long_paragraphs(document: Document) -> Iterator[tuple[bytes, int]]:
    for paragraph in document.paragraphs:
        if len(paragraph) >= LONG_PARAGRAPH:
            yield _key(paragraph), len(paragraph)


def _repeats(document: Document, whole: set[bytes], parts: set[bytes]) -> bool:
    if _key(document.text) in whole:
        return True
    shared = sum(size for key, size in _long_paragraphs(document) if key in parts)
    return shared > REPEATED * len(document.text)
