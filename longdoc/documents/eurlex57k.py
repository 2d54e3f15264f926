"""EURLEX57K: laws of the European Union with EuroVoc concepts, one JSON file a law."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from longdoc.documents.archives import checksum, json_object, locate, members
from longdoc.documents.document import Card, Corpus, Document, make_corpus
from longdoc.errors import DataError

FOLDERS = {"train": "train", "dev": "validation", "test": "test"}
TEXT_FIELDS = ("title", "header", "recitals", "main_body")

CARD = Card(
    name="eurlex57k",
    summary="Laws of the European Union with EuroVoc concepts: thousands of labels, most rare",
    tasks={"concepts": "multi-label: the EuroVoc concepts of a law, by number"},
    licence="(c) European Union, reuse with acknowledgement (Decision 2011/833/EU)",
    address="https://aclanthology.org/P19-1636",
    reference="chalkidis2019eurlex57k",
    documents={"concepts": {"train": 45_000, "validation": 6_000, "test": 6_000}},
    checksum="d8f9b1b76ef83d681f2001c775cabe564f69a2c368c5f56fcf5ed191c0fadfe4",
    layout=("EURLEX57K", "eurlex57k"),
)


def load(task: str, path: str | None = None) -> Corpus:
    """Read every law.

    Raises:
        DataError: Files are missing or damaged, or a field is not what it should be.
    """
    found = locate(CARD, path)
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    digest = checksum(_noted(found, splits))
    if not any(splits.values()):
        message = f"{found}: no train, dev or test folder with .json files in it"
        raise DataError(message)
    splits = {split: sorted(part, key=lambda d: d.id) for split, part in splits.items()}
    notes = {"path": str(found), "checksum": digest, "checksum_known": digest == CARD.checksum}
    return make_corpus(CARD.name, task, "multi-label", splits, notes=notes)


def _noted(found: Path, splits: dict[str, list[Document]]) -> Iterator[tuple[str, bytes]]:
    """Read files one by one, put their documents away, and pass them on for the checksum."""
    for name, content in members(found, _is_law):
        splits[FOLDERS[PurePosixPath(name).parts[-2]]].append(_document(name, content))
        yield name, content


def _is_law(name: str) -> bool:
    pure = PurePosixPath(name)
    return pure.suffix == ".json" and len(pure.parts) > 1 and pure.parts[-2] in FOLDERS


def _document(name: str, content: bytes) -> Document:
    record = json_object(name, content)
    pure = PurePosixPath(name)
    texts = [text for field in TEXT_FIELDS for text in _texts(name, record, field)]
    identifier = f"{pure.parts[-2]}/{record.get('celex_id', pure.stem)}"
    labels = dict.fromkeys(_strings(name, record.get("concepts"), "concepts"))
    return Document(identifier, tuple(text.strip() for text in texts if text.strip()), (*labels,))


def _texts(name: str, record: dict[str, Any], field: str) -> list[str]:
    """Give a field's text: the main body is a list of paragraphs, the others are one each."""
    value = record.get(field)
    if isinstance(value, str):
        return [value]
    return [] if value is None else _strings(name, value, field)


def _strings(name: str, value: Any, field: str) -> list[str]:
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return value
    message = f"{name}: field {field} must be a list of strings; got {str(value)[:60]!r}"
    raise DataError(message)
