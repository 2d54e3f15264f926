"""A user's own documents: JSON Lines, CSV, Parquet, or a folder with one file a document.

Whatever is wrong is said with file, line and field.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longdoc.documents import remarks
from longdoc.documents.document import Corpus, Document, Kind, by_frequency, make_corpus
from longdoc.documents.label_values import flag, is_plain_flag, label_value, may_be_flag
from longdoc.documents.tables import ENDINGS, Row, readable, rows
from longdoc.errors import DataError, nearest

TEXT_FIELDS = ("text", "paragraphs", "facts", "content", "body", "document")
LABEL_FIELDS = ("labels", "label", "topics", "topic", "category", "categories", "class")
SPLIT_NAMES = {
    "train": "train", "training": "train", "dev": "validation", "val": "validation",
    "valid": "validation", "validation": "validation", "test": "test", "testing": "test",
}  # fmt: skip
TEXT_ENDINGS = (".txt", ".md", ".text")
Forms = dict[str, bool]
"""Of each column whether all its rows hold 0 or 1, in another form than labels do."""
Found = tuple[str, str, Document, bool]
"""Place, split, document, and whether the form of its labels allows several."""


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Where text, labels, identifier and split stand; None means: look for the usual names.

    Groups have no usual name: documents have them only where ``group`` names their column.
    """

    text: str | None = None
    labels: tuple[str, ...] | None = None
    id: str | None = None
    split: str | None = None
    separator: str | None = None
    group: str | None = None


def load(path: str | Path, fields: Fields | None = None) -> Corpus:
    """Read own documents into a corpus.

    Args:
        path: A ``.jsonl``, ``.csv``, ``.tsv`` or ``.parquet`` file; a folder that holds such files
            named for their splits (``train.jsonl``, ``test.jsonl`` ...); or a folder with one text
            file a document and ``labels.csv`` or ``labels.jsonl``, whose ``file`` field names it.
        fields: Names of the columns, where they are not the usual ones.

    Raises:
        DataError: With file, line and field of what is wrong.
    """
    place, fields = Path(path), fields or Fields()
    if not place.exists():
        message = f"there is no file or folder {place}"
        raise DataError(message)
    forms: Forms = {}
    folder = place.is_dir()
    found = list(
        _from_folder(place, fields, forms) if folder else _from_file(place, fields, None, forms)
    )
    remarks.not_labels(place, (name for name, alike in forms.items() if alike))
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    places: dict[str, str] = {}
    groups: dict[str, tuple[str, str]] = {}
    for where, split, document, _ in found:
        if document.id in places:
            message = f"{where}: id {document.id!r} stands already in {places[document.id]}"
            raise DataError(message)
        places[document.id] = where
        _stays_together(where, split, document, groups)
        splits[split].append(document)
    several = any(many for *_, many in found)
    kind, labels = _kind(splits, several)
    corpus = make_corpus(
        str(path), "own", kind, splits, labels=labels, notes={"path": str(place.resolve())}
    )
    if not several and fields.separator is None:
        remarks.unparted(place, corpus.labels)
    return corpus


def _stays_together(
    where: str, split: str, document: Document, groups: dict[str, tuple[str, str]]
) -> None:
    """Refuse a document whose group already has documents in another split."""
    before, place = groups.setdefault(document.group, (split, where))
    if document.group and before != split:
        message = (
            f"{where}: group {document.group!r} stands in {split} here and in {before} in {place}; "
            f"documents of a group must be in one split"
        )
        raise DataError(message)


def _kind(
    splits: Mapping[str, Sequence[Document]], several: bool
) -> tuple[Kind, tuple[str, ...] | None]:
    """Infer the kind; of two labels the one rarer in training is the positive one."""
    if several:
        return "multi-label", None
    labels = by_frequency([d for part in splits.values() for d in part])
    if len(labels) == 2:
        ordered = by_frequency(splits["train"])
        return "binary", (*ordered, *(label for label in labels if label not in ordered))
    return "multi-class", None


def read_texts(path: Path, fields: Fields | None = None) -> Iterator[Document]:
    """Read documents without labels, for prediction.

    Args:
        path: A table as for :func:`load`, or a plain text file, which is one document.
        fields: Names of the columns, where they are not the usual ones.
    """
    fields = fields or Fields()
    if path.suffix.lower() == ".json":
        message = (
            f"{path} is neither a text nor a table that is read ({', '.join(ENDINGS)}); JSON must "
            "have an object a line, and end in .jsonl"
        )
        raise DataError(message)
    if path.suffix.lower() not in ENDINGS:
        yield Document(path.name, check_text(path), ())
        return
    for where, row in rows(path):
        yield Document(_identifier(where, row, fields), text_of(where, row, fields.text), ())


def check_text(path: Path) -> tuple[str, ...]:
    """Refuse a plain text file without text; of a table nothing is read.

    Returns:
        Its lines.

    Raises:
        DataError: It holds no text, or cannot be read.
    """
    if path.suffix.lower() in (*ENDINGS, ".json"):
        return ()
    text = plain_text(path)
    if not text:
        message = f"{path} holds no text"
        raise DataError(message)
    return text


def _from_folder(place: Path, fields: Fields, forms: Forms) -> Iterator[Found]:
    tables = sorted(f for f in place.iterdir() if f.suffix.lower() in ENDINGS and f.is_file())
    named: dict[str, Path] = {}
    for file in tables:
        split = SPLIT_NAMES.get(file.stem.lower())
        if split in named:
            message = f"{place}: {named[split].name} and {file.name} are both {split}; keep one"
            raise DataError(message)
        if split is not None:
            named[split] = file
    if named:
        for split, file in named.items():
            yield from _from_file(file, fields, split, forms)
        return
    listing = [f for f in tables if f.stem.lower() == "labels"]
    if not listing:
        message = (
            f"{place}: expected train.jsonl (or .csv, .parquet; validation and test beside it), "
            f"or one text file a document and a labels.csv or labels.jsonl"
        )
        raise DataError(message)
    yield from _entries(_with_texts(place, listing[0]), fields, None, forms)


def _with_texts(place: Path, listing: Path) -> Iterator[Row]:
    """Yield the rows of a list of labels with the text of the file each one names."""
    taken = set()
    for where, row in rows(listing):
        name = row.get("file", row.get("id"))
        if not isinstance(name, str):
            message = f"{where}: field file must name the document's file; found {_names(row)}"
            raise DataError(message)
        file = _inside(place, name, where)
        taken.add(file)
        text = list(plain_text(file))
        rest = {key: value for key, value in row.items() if key != "file"}
        yield where, {**rest, "id": name, "text": text}
    remarks.unlisted(place, listing, taken, TEXT_ENDINGS)


def _inside(place: Path, name: str, where: str) -> Path:
    """Find a document's file, which must lie in the folder."""
    for ending in ("", *TEXT_ENDINGS):
        candidate = place / (name + ending)
        try:
            inside = candidate.resolve().is_relative_to(place.resolve())
            if inside and candidate.is_file():
                return candidate
        except (OSError, ValueError):
            continue
    message = f"{where}: field file: there is no {name[:80]!r} in {place}"
    raise DataError(message)


def plain_text(file: Path) -> tuple[str, ...]:
    """Read a UTF-8 text file, its lines without the blank ones.

    Raises:
        DataError: It cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        message = f"{file}: not a UTF-8 text file: {error}"
        raise DataError(message) from error
    return lines(text)


def lines(text: str) -> tuple[str, ...]:
    """Give the lines of a plain text without the blank ones, as of a file or of standard input."""
    plain = readable(text.removeprefix("\ufeff"))
    return tuple(line for line in plain.split("\n") if line.strip())


def _from_file(file: Path, fields: Fields, split: str | None, forms: Forms) -> Iterator[Found]:
    yield from _entries(rows(file), fields, split, forms)


def _entries(
    given: Iterable[Row], fields: Fields, split: str | None, forms: Forms
) -> Iterator[Found]:
    """Read rows; which columns hold labels, and how, is settled by the first one."""
    columns: LabelColumns | None = None
    for where, row in given:
        if columns is None:
            columns = _label_columns(where, row, fields)
            for name in row:
                forms[name] = forms.get(name, True) and name in columns.left
        for name in [name for name, alike in forms.items() if alike]:
            forms[name] = may_be_flag(row.get(name))
        text = text_of(where, row, fields.text)
        labels, many = _labels(where, row, columns, fields)
        group = _group(where, row, fields.group)
        document = Document(_identifier(where, row, fields), text, labels, group)
        yield where, split_of(where, row, fields, split), document, many


def _identifier(where: str, row: Mapping[str, Any], fields: Fields) -> str:
    """Give a row's identifier; without one its place, in words that do not depend on the folder."""
    _require(where, row, fields.id)
    value = row.get(fields.id or "id")
    return readable(str(value)) if value not in (None, "") else Path(where).name


def _group(where: str, row: Mapping[str, Any], field: str | None) -> str:
    """Give a row's group; without a value there the document stands alone."""
    if field is None:
        return ""
    _require(where, row, field)
    value = row[field]
    if value is not None and not isinstance(value, str | int | float):
        message = f"{where}: field {field} must be text or a number; got {str(value)[:40]!r}"
        raise DataError(message)
    missing = value is None or value != value  # NaN, as tables have it where a number is missing
    if missing:
        return ""
    # A column of whole numbers in which one is missing is written as one of fractions.
    return re.sub(r"^(-?\d+)\.0$", r"\1", readable(str(value)))


def _require(where: str, row: Mapping[str, Any], field: str | None) -> None:
    """Refuse a row that lacks a field the user named."""
    if field is not None and field not in row:
        message = f"{where}: no field {field!r}; {nearest(field, map(str, row))}"
        raise DataError(message)


def split_of(where: str, row: Mapping[str, Any], fields: Fields, split: str | None) -> str:
    """Say which split a row belongs to: the given one, what its field says, or train.

    Raises:
        DataError: The field says something else.
    """
    if split is not None:
        return split
    _require(where, row, fields.split)
    name = row.get(fields.split or "split")
    if name is None and "split" not in row and fields.split is None:
        return "train"
    if str(name).lower() not in SPLIT_NAMES:
        known = nearest(str(name), SPLIT_NAMES)
        message = f"{where}: field {fields.split or 'split'} cannot be {name!r}; {known}"
        raise DataError(message)
    return SPLIT_NAMES[str(name).lower()]


def text_of(where: str, row: Mapping[str, Any], field: str | None) -> tuple[str, ...]:
    """Give a row's text, paragraph by paragraph.

    Raises:
        DataError: There is none, or it is no text.
    """
    names = [field] if field else [name for name in TEXT_FIELDS if name in row]
    if not names or names[0] not in row:
        wanted = f"field {field!r}" if field else "text field"
        message = f"{where}: no {wanted}; found {_names(row)}"
        raise DataError(message)
    value = row[names[0]]
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        message = (
            f"{where}: field {names[0]} must be text or a list of texts; got {str(value)[:40]!r}"
        )
        raise DataError(message)
    if not any(part.strip() for part in parts):
        message = f"{where}: field {names[0]} is empty"
        raise DataError(message)
    return tuple(readable(part) for part in parts)


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row)) or "no fields"


@dataclass(frozen=True)
class LabelColumns:
    """Where labels stand.

    Attributes:
        names: Of the columns.
        flags: Whether each column is a label, and holds 0 or 1; else the only one holds labels.
        known: All columns of the first row where labels were guessed from it; None where not.
        left: Columns whose 0 or 1 has another form in that row, as measures have it too.
    """

    names: tuple[str, ...]
    flags: bool
    known: frozenset[str] | None = None
    left: tuple[str, ...] = ()


def _label_columns(where: str, row: Mapping[str, Any], fields: Fields) -> LabelColumns:
    """Find the columns that hold labels: those named, a usual name, or all that hold 0 or 1."""
    others = (fields.id, fields.split, fields.text, fields.group)
    usual_names = (name for name in LABEL_FIELDS if name in row and name not in others)
    names = fields.labels or tuple(usual_names)[:1]
    if names:
        return LabelColumns(names, flags=len(names) > 1)
    guessed, left = _flag_columns(row, fields)
    if not guessed:
        usual = ", ".join(LABEL_FIELDS[:2])
        message = f"{where}: no label field ({usual}) and no 0/1 columns; found {_names(row)}"
        raise DataError(message)
    return LabelColumns(guessed, flags=True, known=frozenset(row), left=left)


def _labels(
    where: str, row: Mapping[str, Any], columns: LabelColumns, fields: Fields
) -> tuple[tuple[str, ...], bool]:
    """Read a row's labels, and whether their form allows several."""
    missing = [name for name in columns.names if name not in row]
    if missing:
        message = f"{where}: no label field {missing[0]}; found {_names(row)}"
        raise DataError(message)
    if not columns.flags:
        return label_value(where, columns.names[0], row[columns.names[0]], fields.separator)
    guess = ""
    if columns.known is not None:
        guess = "; the first row has 0 or 1 there, as labels have: name the label fields"
    for name in columns.names:
        if flag(row[name]) is None:
            message = f"{where}: field {name} must be 0 or 1; got {row[name]!r}{guess}"
            raise DataError(message)
    if columns.known is not None:
        late = [name for name in _flag_columns(row, fields)[0] if name not in columns.known]
        if late:
            message = (
                f"{where}: the first row has no field {late[0]!r}; give every row a 0 or 1 for "
                f"each label, or name the label fields"
            )
            raise DataError(message)
    return tuple(readable(name) for name in columns.names if flag(row[name])), True


def _flag_columns(
    row: Mapping[str, Any], fields: Fields
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take the columns that hold 0 or 1, if none is called a label; give those left out too."""
    named = (fields.id, fields.split, fields.text, fields.group)
    others = {*TEXT_FIELDS, "id", "split", "file", *named}
    # A column without a name is the row's number, as pandas writes it.
    able = [name for name in row if name and name not in others]
    plain = tuple(name for name in able if is_plain_flag(row[name]))
    # Other forms are also those of measures, such as a sum of 0.0.
    other = tuple(n for n in able if n not in plain and flag(row[n]) is not None)
    other = tuple(n for n in other if not n.startswith("Unnamed: ")) if plain else other
    return (plain, other) if plain else (other, ())
