"""EURLEX57K: laws of the European Union with EuroVoc concepts, one JSON file a law."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from longdoc.documents import record_cache
from longdoc.documents.archives import json_object, locate
from longdoc.documents.document import (
    Card,
    Corpus,
    Document,
    Download,
    by_frequency,
    make_corpus,
)
from longdoc.documents.record_cache import Record
from longdoc.errors import DataError

FOLDERS = {"train": "train", "dev": "validation", "test": "test"}
HEADING_FIELDS, BODY_FIELDS = ("title", "header"), ("recitals", "main_body", "attachments")
DESCRIPTORS = ("EURLEX57K.json", "eurovoc_en.json")
"""The file of concepts, as the data set's keepers and as its makers name it."""
HOME = "http://nlp.cs.aueb.gr/software_and_datasets/EURLEX57K"
TOP = 100
TASKS = {
    "concepts": "multi-label: the EuroVoc concepts of a law, by number, those never seen in "
    "training last",
    "top-100": "multi-label: the hundred concepts with the most training laws",
    "level-1": "multi-label: the concepts at the top of EuroVoc that stand above a law's concepts",
}
SIZES = {"train": 45_000, "validation": 6_000, "test": 6_000}

CARD = Card(
    name="eurlex57k",
    summary="Laws of the European Union with EuroVoc concepts: thousands of labels, most rare",
    tasks=TASKS,
    licence="(c) European Union, reuse with acknowledgement (Decision 2011/833/EU)",
    address="https://aclanthology.org/P19-1636",
    reference="chalkidis2019eurlex57k",
    documents=dict.fromkeys(TASKS, SIZES),
    checksum="d8f9b1b76ef83d681f2001c775cabe564f69a2c368c5f56fcf5ed191c0fadfe4",
    layout=("EURLEX57K", "eurlex57k"),
    downloads=(
        Download(file="EURLEX57K/datasets.zip", addresses=(f"{HOME}/datasets.zip",)),
        Download(file=f"EURLEX57K/{DESCRIPTORS[0]}", addresses=(f"{HOME}/eurovoc_en.json",)),
    ),
)


def load(task: str, path: str | None = None) -> Corpus:
    """Read every law.

    ``concepts`` has all concepts that any law bears, as the paper counts them: 746 frequent, 3,362
    few, 163 without a training law. What a concept is called stands in ``label_names``.

    Raises:
        DataError: Files are missing or damaged, or a field is not what it should be.
    """
    found = locate(CARD, path)
    reading = record_cache.read(CARD, found, _is_law, _record, beside=_is_thesaurus)
    if not reading.records:
        message = f"{found}: no train, dev or test folder with .json files in it"
        raise DataError(message)
    named = next((name for name in DESCRIPTORS if name in reading.beside), DESCRIPTORS[0])
    thesaurus = _thesaurus(found, named, reading.beside.get(named), task)
    splits = {split: _documents(reading.records, split) for split in FOLDERS.values()}
    labels = by_frequency(splits["train"])
    if task == "concepts":
        everywhere = by_frequency([d for part in splits.values() for d in part])
        labels = (*labels, *sorted(set(everywhere) - set(labels), key=int_or_text))
    elif task == "top-100":
        labels = labels[:TOP]
        splits = _relabelled(splits, {label: (label,) for label in labels})
    else:
        splits = _relabelled(splits, {label: _tops(label, thesaurus) for label in thesaurus})
        labels = by_frequency(splits["train"])
    notes = {
        "path": str(found),
        "checksum": reading.checksum,
        "checksum_known": reading.checksum == CARD.checksum,
    }
    names = {label: thesaurus[label][0] for label in labels if label in thesaurus}
    return make_corpus(
        CARD.name, task, "multi-label", splits, labels=labels, notes=notes, label_names=names
    )


def int_or_text(label: str) -> tuple[int, str]:
    """Give a key that sorts numbers by value and anything else after them.

    Example:
        >>> sorted(["b", "10", "9"], key=int_or_text)
        ['9', '10', 'b']
    """
    return (0, label.zfill(12)) if label.isdigit() else (1, label)


def _documents(records: Sequence[Record], split: str) -> list[Document]:
    return [
        Document(r.id, r.paragraphs, r.fields["concepts"], heading=r.heading)
        for r in records
        if r.split == split
    ]


def _relabelled(
    splits: Mapping[str, Sequence[Document]], labels: Mapping[str, Sequence[str]]
) -> dict[str, list[Document]]:
    """Put other labels in the place of each label; those that are not named go."""
    changed: dict[str, list[Document]] = {}
    for split, part in splits.items():
        changed[split] = []
        for document in part:
            new = dict.fromkeys(n for label in document.labels for n in labels.get(label, ()))
            changed[split].append(
                Document(document.id, document.paragraphs, (*new,), heading=document.heading)
            )
    return changed


def _is_law(name: str) -> bool:
    pure = PurePosixPath(name)
    return pure.suffix == ".json" and len(pure.parts) > 1 and pure.parts[-2] in FOLDERS


def _is_thesaurus(name: str) -> bool:
    return PurePosixPath(name).name in DESCRIPTORS


def _record(name: str, content: bytes) -> Record:
    values = json_object(name, content)
    pure = PurePosixPath(name)
    identifier = f"{pure.parts[-2]}/{values.get('celex_id', pure.stem)}"
    heading, body = (_paragraphs(name, values, part) for part in (HEADING_FIELDS, BODY_FIELDS))
    concepts = tuple(dict.fromkeys(_strings(name, values.get("concepts"), "concepts")))
    split = FOLDERS[pure.parts[-2]]
    return Record(split, identifier, heading + body, {"concepts": concepts}, len(heading))


def _paragraphs(name: str, record: dict[str, Any], fields: Sequence[str]) -> tuple[str, ...]:
    """Give the text of fields: the main body is a list of paragraphs, the others are one each."""
    texts: list[str] = []
    for field in fields:
        value = record.get(field)
        if isinstance(value, str):
            texts.append(value)
        elif value is not None:
            texts += _strings(name, value, field)
    return tuple(text.strip() for text in texts if text.strip())


def _strings(name: str, value: Any, field: str) -> list[str]:
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return value
    message = f"{name}: field {field} must be a list of strings; got {str(value)[:60]!r}"
    raise DataError(message)


def _thesaurus(
    place: Path, name: str, content: bytes | None, task: str
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Read concept -> name and parents; without the file there are no names.

    Raises:
        DataError: It is damaged, or missing where the task needs it.
    """
    if content is None:
        if task == "level-1":
            message = f"{place}: no {name} in it, which task level-1 needs"
            raise DataError(message)
        return {}
    found = {}
    for concept, entry in json_object(name, content).items():
        if not isinstance(entry, dict) or not isinstance(entry.get("label"), str):
            message = f"{name}: concept {concept!r} must be an object with a label"
            raise DataError(message)
        parents = _strings(f"{name}, concept {concept}", entry.get("parents"), "parents")
        found[concept] = (entry["label"], tuple(parents))
    return found


def _tops(concept: str, thesaurus: Mapping[str, tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """Give the concepts without parents above one, itself if it has none."""
    tops: dict[str, None] = {}
    seen, waiting = {concept}, [concept]
    while waiting:
        here = waiting.pop()
        parents = thesaurus[here][1] if here in thesaurus else ()
        if not parents:
            tops[here] = None
        waiting += [parent for parent in parents if parent not in seen]
        seen.update(parents)
    return tuple(sorted(tops, key=int_or_text))
