"""Cases of the European Court of Human Rights as Chalkidis et al. published them in 2021.

``ecthr-cases`` has the facts of a case as paragraphs, the articles alleged and found violated, and
which paragraphs the court relied on. ``lexglue-ecthr-a`` and ``-b`` are the same cases with the ten
articles of the LexGLUE benchmark. Read from a folder of the hub's Parquet files or of the makers'
JSON Lines.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from longdoc.documents.archives import search_folders
from longdoc.documents.document import Card, Corpus, Document, Download, Kind, make_corpus
from longdoc.documents.files import SPLIT_NAMES
from longdoc.documents.tables import rows
from longdoc.errors import DataError

SIZES = {"train": 9000, "validation": 1000, "test": 1000}
ARTICLES = (
    "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18",
    "34", "38", "39", "46", "P1-1", "P1-2", "P1-3", "P3-1", "P4-1", "P4-2", "P4-3", "P4-4", "P6-1",
    "P6-2", "P6-3", "P7-1", "P7-2", "P7-3", "P7-4", "P7-5", "P12-1", "P13-1", "P13-2", "P13-3",
)  # fmt: skip
"""In the order by which the project's notes number them, from 0."""
LEXGLUE = ("2", "3", "5", "6", "8", "9", "10", "11", "14", "P1-1")
"""In the order by which the benchmark numbers them, from 0."""
ALLEGED = {
    4: 5437, 1: 1740, 11: 1665, 3: 1623, 21: 1558, 6: 1056, 0: 623, 17: 547, 12: 444, 8: 441,
    20: 187, 9: 162, 19: 159, 18: 119, 7: 81, 5: 72, 23: 61, 26: 48, 16: 42, 15: 31, 35: 29,
    33: 17, 10: 16, 28: 7, 13: 6, 2: 26, 22: 15, 32: 7, 37: 5, 36: 2, 24: 1, 31: 1, 34: 1,
}  # fmt: skip
"""Training cases an alleged article, as the project's notes counted them."""
ANY_VIOLATION = {"violation": 8238, "no violation": 762}
"""Training cases with any violation, as the project's notes counted them."""
TASKS = {
    "allegations": "multi-label: the articles that the applicants allege to be violated",
    "violations": "multi-label: the articles found violated",
    "allegation-binary": "binary: was any article alleged to be violated?",
    "violation-binary": "binary: was any article found violated?",
}
CONFIGURATIONS = {"alleg": "alleged-violation-prediction", "viola": "violation-prediction"}
ALLEGED_FIELD, FOUND_FIELD = "allegedly_violated_articles", "violated_articles"
HUB = "https://huggingface.co/datasets"
NON_COMMERCIAL = "Not for commercial use (CC BY-NC-SA 4.0)."
PUBLISHED = {
    "alleged-violation-prediction/train":
        "93241a327f14843a6aae1e1dc5f8960eb7f83716032498b360bd9702d7ef3aa1",
    "alleged-violation-prediction/validation":
        "5f73797159cc5a5f2e98ef356d3aa1e4a9234b3cb81b5e4f66da92e5ef3655eb",
    "alleged-violation-prediction/test":
        "a91b7b0fc3f545bf4696c74394bd6652f99dc8a2f36359a9ba0395dcf70ec52d",
}  # fmt: skip
"""SHA-256 of the hub's Parquet files, as its commit 4ab4756 lists them; of the others none was
found."""


def _parquet(repository: str, folder: str, configurations: tuple[str, ...]) -> tuple[Download, ...]:
    """List the Parquet files that the hub makes of a data set, in its own branch for them."""
    return tuple(
        Download(
            file=f"{folder}/{configuration}/{split}/0000.parquet",
            addresses=(
                f"{HUB}/{repository}/resolve/refs%2Fconvert%2Fparquet/"
                f"{configuration}/{split}/0000.parquet",
            ),
            sha256=PUBLISHED.get(f"{configuration}/{split}", ""),
        )
        for configuration in configurations
        for split in SIZES
    )


CARD = Card(
    name="ecthr-cases",
    summary="Facts of 11,000 cases before the European Court of Human Rights, with rationales",
    tasks=TASKS,
    licence="CC BY-NC-SA 4.0",
    address=f"{HUB}/AUEB-NLP/ecthr_cases (branch refs/convert/parquet)",
    reference="chalkidis2021paragraph",
    documents=dict.fromkeys(TASKS, SIZES),
    downloads=_parquet("AUEB-NLP/ecthr_cases", "ecthr_cases", tuple(CONFIGURATIONS.values())),
    terms=NON_COMMERCIAL,
)
LEXGLUE_A, LEXGLUE_B = (
    Card(
        name=f"lexglue-ecthr-{letter}",
        summary=f"LexGLUE's ECtHR task {letter.upper()}: ten articles {what}",
        tasks={"articles": f"multi-label: the articles {what}, ten of them"},
        licence="CC BY 4.0 (benchmark); CC BY-NC-SA 4.0 (cases)",
        address=f"{HUB}/coastalcph/lex_glue (folder ecthr_{letter})",
        reference="chalkidis2022lexglue",
        documents={"articles": SIZES},
        downloads=_parquet("coastalcph/lex_glue", f"lexglue-ecthr-{letter}", (f"ecthr_{letter}",)),
        terms=NON_COMMERCIAL,
    )
    for letter, what in (("a", "found violated"), ("b", "alleged to be violated"))
)
EVERY = {*CONFIGURATIONS.values(), "ecthr_a", "ecthr_b"}
"""Folders of which each holds one task's labels."""
FOLDERS = {
    CARD.name: ("ecthr_cases", "ecthr-cases", "ECtHR-NAACL2021"),
    LEXGLUE_A.name: ("lex_glue/ecthr_a", "lexglue-ecthr-a", "ecthr_a"),
    LEXGLUE_B.name: ("lex_glue/ecthr_b", "lexglue-ecthr-b", "ecthr_b"),
}


def load(task: str, path: str | None = None, *, silver: bool = False) -> Corpus:
    """Read ``ecthr-cases``.

    Args:
        task: One of ``TASKS``.
        path: Folder with the hub's Parquet files, or the makers' JSON Lines.
        silver: Keep only the paragraphs that the court's reasoning refers to, where it is known.

    Raises:
        DataError: Files are missing or damaged, or a whole copy has other labels than published.
    """
    folder = locate(CARD, path)
    alleged = task.startswith("alleg")
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    for split, place, row in _rows(folder, CONFIGURATIONS[task[:5]]):
        number = len(splits[split])
        splits[split].append(_case(place, row, f"{split}/{number}", alleged, silver))
    kind: Kind = "binary" if task.endswith("binary") else "multi-label"
    if kind == "binary":
        names = ("no allegation", "allegation") if alleged else ("no violation", "violation")
        splits = {name: [_binary(d, names) for d in part] for name, part in splits.items()}
    notes = {"path": str(folder), "silver": silver}
    labels = names if kind == "binary" else None
    corpus = make_corpus(CARD.name, task, kind, splits, labels=labels, notes=notes)
    _check_known(corpus, folder)
    return corpus


def load_lexglue(card: Card, task: str, path: str | None = None) -> Corpus:
    """Read ``lexglue-ecthr-a`` or ``-b``.

    Raises:
        DataError: Files are missing or damaged.
    """
    folder = locate(card, path)
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    for split, place, row in _rows(folder, card.name.replace("lexglue-ecthr-", "ecthr_")):
        field, labels = _benchmark_row(card, place, row)
        name = f"{split}/{len(splits[split])}"
        splits[split].append(Document(name, _texts(place, row, field), labels))
    notes = {"path": str(folder)}
    return make_corpus(card.name, task, "multi-label", splits, labels=LEXGLUE, notes=notes)


def _benchmark_row(card: Card, place: str, row: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Give the field of a row's text, and its labels: of the hub's files or of the makers'."""
    if "facts" in row and "text" not in row:
        alleged = card is LEXGLUE_B
        articles = _texts(place, row, ALLEGED_FIELD if alleged else FOUND_FIELD)
        return "facts", tuple(a for a in dict.fromkeys(articles) if a in LEXGLUE)
    numbers = _whole_numbers(place, row, "labels", len(LEXGLUE))
    return "text", tuple(LEXGLUE[number] for number in dict.fromkeys(numbers))


def locate(card: Card, path: str | None = None) -> Path:
    """Find the folder of a data set's cases.

    Raises:
        DataError: It is in none of the places.
    """
    places = [Path(path)] if path is not None else [
        folder / name for folder in search_folders() for name in FOLDERS[card.name]
    ]  # fmt: skip
    for place in places:
        if place.is_dir():
            return place
    message = (
        f"{card.name} is not on this machine: there is no folder "
        f"{' or '.join(map(str, places))} with its .parquet or .jsonl files; "
        f"its home is {card.address}"
    )
    raise DataError(message)


def _rows(folder: Path, configuration: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Read rows with split and place, in the order of the files' names."""
    files = [f for f in sorted(folder.rglob("*")) if f.suffix in (".parquet", ".jsonl")]
    named = [f for f in files if configuration in f.relative_to(folder).parts]
    _refuse_another(folder, configuration)
    found = False
    for file in named or [f for f in files if not _configured(f.relative_to(folder))]:
        split = _split(file.relative_to(folder))
        for place, row in rows(file):
            part = split or SPLIT_NAMES.get(str(row.get("data_type")), "")
            if not part:
                message = f"{place}: no split in the file's name, and none in a field data_type"
                raise DataError(message)
            found = True
            yield part, place, row
    if not found:
        where = f" of {configuration}" if configuration else ""
        message = f"{folder}: no cases{where} in .parquet or .jsonl files named for their split"
        raise DataError(message)


def _configured(name: Path) -> bool:
    return bool(EVERY & set(name.parts))


def _refuse_another(folder: Path, configuration: str) -> None:
    """Refuse a folder that names another task: its rows look the same, and labels differ.

    Raises:
        DataError: Naming both.
    """
    part = folder.resolve().name
    if part in EVERY and part != configuration:
        message = f"{folder} holds {part}; for this task give the folder {configuration}"
        raise DataError(message)


def _split(name: Path) -> str:
    """Read the split off a folder or file: train/0000.parquet, ecthr_cases-train.parquet."""
    words = [*name.parts[:-1], *name.stem.replace("_", "-").split("-")]
    known = [SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES]
    return known[-1] if known else ""


def _case(place: str, row: Mapping[str, Any], name: str, alleged: bool, silver: bool) -> Document:
    own = ALLEGED_FIELD if alleged else FOUND_FIELD
    labels = _texts(place, row, "labels" if "labels" in row else own)
    unknown = [label for label in labels if label not in ARTICLES]
    if unknown:
        message = f"{place}: {unknown[0]!r} is no article of the Convention or its protocols"
        raise DataError(message)
    facts = _texts(place, row, "facts")
    evidence = {
        kind: tuple(sorted(set(_whole_numbers(place, row, f"{kind}_rationales", len(facts)))))
        for kind in ("silver", "gold")
        if row.get(f"{kind}_rationales") is not None
    }
    kept = facts
    if silver and evidence.get("silver"):
        kept = tuple(facts[number] for number in evidence["silver"])
        evidence = {}  # the numbers were those of all paragraphs
    identifier = str(row.get("case_id") or name)
    return Document(identifier, kept, tuple(dict.fromkeys(labels)), evidence=evidence)


def _binary(document: Document, names: tuple[str, str]) -> Document:
    label = names[bool(document.labels)]
    return Document(document.id, document.paragraphs, (label,), evidence=document.evidence)


def _texts(place: str, row: Mapping[str, Any], field: str) -> tuple[str, ...]:
    value = row.get(field)
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    message = f"{place}: field {field} must be a list of texts; got {str(value)[:60]!r}"
    raise DataError(message)


def _whole_numbers(place: str, row: Mapping[str, Any], field: str, end: int) -> Sequence[int]:
    value = row.get(field)
    fits = isinstance(value, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < end for n in value
    )
    if fits:
        return list(value or ())
    message = f"{place}: field {field} must be a list of numbers in 0..{end - 1}; "
    raise DataError(message + f"got {str(value)[:60]!r}")


def _check_known(corpus: Corpus, folder: Path) -> None:
    """Refuse a whole copy whose training labels are not those that are known.

    Raises:
        DataError: With the first label that differs.
    """
    train = corpus.splits["train"]
    known: Mapping[str, int] = {}
    if corpus.task == "allegations":
        known = {ARTICLES[number]: count for number, count in ALLEGED.items()}
    elif corpus.task == "violation-binary":
        known = ANY_VIOLATION
    found = Counter(label for document in train for label in document.labels)
    if len(train) != SIZES["train"] or not known:
        return
    for label in sorted({*known, *found}):
        if found[label] != known.get(label, 0):
            message = (
                f"{folder}: not the published copy of {CARD.name}: {found[label]} training cases "
                f"with {label!r}, known are {known.get(label, 0)}"
            )
            raise DataError(message)
