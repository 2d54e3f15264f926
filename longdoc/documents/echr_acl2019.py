"""ECHR-ACL2019: judgments of the European Court of Human Rights, one JSON file a judgment."""

from pathlib import PurePosixPath
from typing import Any

from longdoc.documents.archives import checksum, json_object, locate, members
from longdoc.documents.document import Card, Corpus, Document, Kind, make_corpus
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
)

RANKS = ("1", "2", "3", "4")
POSITIVE, NEGATIVE = "violation", "no violation"


def load(task: str, path: str | None = None) -> Corpus:
    """Read the judgments of one task.

    Raises:
        DataError: Files are missing or damaged, or a field is not what it should be.
    """
    found = locate(CARD, path)
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    digests = []
    for name, content in members(found, _is_judgment):
        folder = PurePosixPath(name).parts[-2]
        digests.append((name, content))
        splits[FOLDERS[folder]].append(_document(name, content, task))
    if not digests:
        message = f"{found}: no EN_train, EN_dev or EN_test folder with .json files in it"
        raise DataError(message)
    splits = {split: sorted(part, key=lambda d: d.id) for split, part in splits.items()}
    kinds: dict[str, Kind] = {"violation": "binary", "importance": "multi-class"}
    kind = kinds.get(task, "multi-label")
    labels = {"violation": (NEGATIVE, POSITIVE), "importance": RANKS}.get(task)
    digest = checksum(digests)
    notes = {"path": str(found), "checksum": digest, "checksum_known": digest == CARD.checksum}
    return make_corpus(CARD.name, task, kind, splits, labels=labels, notes=notes)


def _is_judgment(name: str) -> bool:
    pure = PurePosixPath(name)
    return pure.suffix == ".json" and len(pure.parts) > 1 and pure.parts[-2] in FOLDERS


def _document(name: str, content: bytes, task: str) -> Document:
    record = json_object(name, content)
    violated = _articles(name, record, "VIOLATED_ARTICLES")
    labels = violated
    if task == "violation":
        labels = (POSITIVE if violated else NEGATIVE,)
    elif task == "alleged-articles":
        labels = tuple(dict.fromkeys(violated + _articles(name, record, "NON_VIOLATED_ARTICLES")))
    elif task == "importance":
        labels = (_rank(name, record),)
    pure = PurePosixPath(name)
    identifier = f"{pure.parts[-2].removeprefix('EN_')}/{record.get('ITEMID', pure.stem)}"
    return Document(identifier, _strings(name, record, "TEXT"), labels)


def _rank(name: str, record: dict[str, Any]) -> str:
    rank = str(record.get("IMPORTANCE"))
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
