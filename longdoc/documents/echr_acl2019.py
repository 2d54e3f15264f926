"""ECHR-ACL2019: judgments of the European Court of Human Rights, one JSON file a judgment."""

from collections import Counter
from pathlib import PurePosixPath
from typing import Any

from longdoc.documents import leaks, record_cache
from longdoc.documents.archives import json_object, locate
from longdoc.documents.document import Card, Corpus, Document, Download, Kind, make_corpus
from longdoc.documents.leaks import Handling
from longdoc.documents.record_cache import Record
from longdoc.errors import DataError

SIZES = {"train": 7100, "validation": 1380, "test": 2998}
FOLDERS = {"EN_train": "train", "EN_dev": "validation", "EN_test": "test"}

TASKS = ("violation", "violated-articles", "alleged-articles", "importance")
CARD = Card(
    name="echr-acl2019",
    summary="Judgments of the European Court of Human Rights: long, chronological splits",
    tasks={
        "violation": "binary: was any article found violated?",
        "violated-articles": "multi-label: the articles found violated",
        "alleged-articles": "multi-label: the articles found violated or not violated",
        "importance": "multi-class: the rank the court gave a case, 1 (key case) to 4",
    },
    licence="research, non-commercial; judgments (c) Council of Europe, source HUDOC",
    address="https://archive.org/details/ECHR-ACL2019",
    reference="chalkidis2019echr",
    documents=dict.fromkeys(TASKS, SIZES),
    checksum="19a943861c625ac1a12764e7929a6c51371ed343a9c0400b002cf7e38ea89752",
    layout=("ECHR_Dataset", "echr-acl2019", "ECHR-ACL2019"),
    downloads=(
        Download(
            file="ECHR_Dataset.zip",
            addresses=("https://archive.org/download/ECHR-ACL2019/ECHR_Dataset.zip",),
        ),
    ),
    terms="For research, not for commercial use.",
)

RANKS = ("1", "2", "3", "4")
POSITIVE, NEGATIVE = "violation", "no violation"
SINGLE = {"IMPORTANCE": "importance", "DATE": "date", "RESPONDENT": "country"}


def load(task: str, path: str | None = None, *, handling: Handling = "mask") -> Corpus:
    """Read the judgments of one task.

    Args:
        task: One of ``TASKS``.
        path: Folder or archive; looked for without.
        handling: What is done with sentences that state the outcome; the notes say how many.

    Raises:
        DataError: Files are missing or damaged, or a field is not what it should be.
    """
    found = locate(CARD, path)
    reading = record_cache.read(CARD, found, _is_judgment, _record)
    if not reading.records:
        message = f"{found}: no EN_train, EN_dev or EN_test folder with .json files in it"
        raise DataError(message)
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    for record in reading.records:
        splits[record.split].append(_document(record, task, handling))
    kinds: dict[str, Kind] = {"violation": "binary", "importance": "multi-class"}
    kind = kinds.get(task, "multi-label")
    labels = {"violation": (NEGATIVE, POSITIVE), "importance": RANKS}.get(task)
    notes = {
        "path": str(found),
        "checksum": reading.checksum,
        "checksum_known": reading.checksum == CARD.checksum,
        "leaks": {"handling": handling, "documents": _leaking(reading.records)},
    }
    return make_corpus(CARD.name, task, kind, splits, labels=labels, notes=notes)


def _is_judgment(name: str) -> bool:
    pure = PurePosixPath(name)
    return pure.suffix == ".json" and len(pure.parts) > 1 and pure.parts[-2] in FOLDERS


def _record(name: str, content: bytes) -> Record:
    values = json_object(name, content)
    pure = PurePosixPath(name)
    paragraphs = _strings(name, values, "TEXT")
    identifier = f"{pure.parts[-2].removeprefix('EN_')}/{values.get('ITEMID', pure.stem)}"
    fields = {
        "file": (name,),
        "violated": _articles(name, values, "VIOLATED_ARTICLES"),
        "not violated": _articles(name, values, "NON_VIOLATED_ARTICLES"),
        "leaks": tuple(kind for text in paragraphs for kind in leaks.found(text).elements()),
        **{field: (str(values.get(key) or ""),) for key, field in SINGLE.items()},
    }
    return Record(FOLDERS[pure.parts[-2]], identifier, paragraphs, fields)


def _document(record: Record, task: str, handling: Handling) -> Document:
    fields = record.fields
    labels = fields["violated"]
    if task == "violation":
        labels = (POSITIVE if labels else NEGATIVE,)
    elif task == "alleged-articles":
        labels = tuple(dict.fromkeys(labels + fields["not violated"]))
    elif task == "importance":
        labels = (_rank(fields["file"][0], fields["importance"][0]),)
    text = record.paragraphs
    if fields["leaks"]:
        text = leaks.without(text, handling)
    about = {name: fields[name][0] for name in ("date", "country") if fields[name][0]}
    return Document(record.id, text, labels, about=about)


def _leaking(records: list[Record]) -> dict[str, dict[str, int]]:
    """Count the documents of each split with each kind of leak."""
    counted: dict[str, Counter[str]] = {name: Counter() for name in leaks.PATTERNS}
    for record in records:
        for name in set(record.fields["leaks"]):
            counted[name][record.split] += 1
    return {name: dict(counts) for name, counts in counted.items()}


def _rank(name: str, rank: str) -> str:
    if rank not in RANKS:
        message = f"{name}: field IMPORTANCE must be one of {', '.join(RANKS)}; got {rank[:60]!r}"
        raise DataError(message)
    return rank


def _articles(name: str, record: dict[str, Any], field: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_strings(name, record, field)))


def _strings(name: str, record: dict[str, Any], field: str) -> tuple[str, ...]:
    value = record.get(field)
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    message = f"{name}: field {field} must be a list of strings; got {str(value)[:60]!r}"
    raise DataError(message)
