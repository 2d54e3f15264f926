"""A user's own documents: JSON Lines, CSV, Parquet, or a folder with one file a document.

Whatever is wrong is said with file, line and field.
"""

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from longdoc.documents.document import Corpus, Document, Kind, by_frequency, make_corpus
from longdoc.errors import DataError, nearest

TEXT_FIELDS = ("text", "paragraphs", "facts", "content", "body", "document")
LABEL_FIELDS = ("labels", "label", "topics", "topic", "category", "categories", "class")
SPLIT_NAMES = {
    "train": "train", "training": "train", "dev": "validation", "val": "validation",
    "valid": "validation", "validation": "validation", "test": "test", "testing": "test",
}  # fmt: skip
ENDINGS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
TEXT_ENDINGS = (".txt", ".md", ".text")
LONGEST_LINE = 64 * 2**20
Row = tuple[str, dict[str, Any]]
Found = tuple[str, Document, bool]


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Where text, labels, identifier and split stand; None means: look for the usual names."""

    text: str | None = None
    labels: tuple[str, ...] | None = None
    id: str | None = None
    split: str | None = None
    separator: str | None = None


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
    found = list(_from_folder(place, fields) if place.is_dir() else _from_file(place, fields, None))
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    for split, document, _ in found:
        splits[split].append(document)
    several = any(many for _, _, many in found)
    kind, labels = _kind(splits, several)
    return make_corpus(
        str(path), "own", kind, splits, labels=labels, notes={"path": str(place.resolve())}
    )


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


def read_texts(path: Path, text_field: str | None = None) -> Iterator[Document]:
    """Read documents without labels, for prediction.

    Args:
        path: A table as for :func:`load`, or a plain text file, which is one document.
        text_field: Name of the text column, where it is not a usual one.
    """
    if path.suffix.lower() not in ENDINGS:
        yield Document(path.name, _plain_text(path), ())
        return
    for where, row in _rows(path):
        yield Document(str(row.get("id", where)), _text(where, row, text_field), ())


def _from_folder(place: Path, fields: Fields) -> Iterator[Found]:
    tables = sorted(f for f in place.iterdir() if f.suffix.lower() in ENDINGS)
    named = [(SPLIT_NAMES[f.stem.lower()], f) for f in tables if f.stem.lower() in SPLIT_NAMES]
    if named:
        for split, file in named:
            yield from _from_file(file, fields, split)
        return
    listing = [f for f in tables if f.stem.lower() == "labels"]
    if not listing:
        message = (
            f"{place}: expected train.jsonl (or .csv, .parquet; validation and test beside it), "
            f"or one text file a document and a labels.csv or labels.jsonl"
        )
        raise DataError(message)
    for number, (where, row) in enumerate(_rows(listing[0])):
        name = row.get("file", row.get("id"))
        if not isinstance(name, str):
            message = f"{where}: field file must name the document's file; found {_names(row)}"
            raise DataError(message)
        file = _inside(place, name, where)
        rest = {key: value for key, value in row.items() if key != "file"}
        merged = {**rest, "id": name, "text": list(_plain_text(file))}
        yield _entry(where, number, merged, fields, None)


def _inside(place: Path, name: str, where: str) -> Path:
    """Find a document's file, which must lie in the folder."""
    for candidate in (place / name, *(place / (name + end) for end in TEXT_ENDINGS)):
        if candidate.is_file() and candidate.resolve().is_relative_to(place.resolve()):
            return candidate
    message = f"{where}: field file: there is no {name!r} in {place}"
    raise DataError(message)


def _plain_text(file: Path) -> tuple[str, ...]:
    try:
        return tuple(line for line in file.read_text(encoding="utf-8").split("\n") if line.strip())
    except (UnicodeDecodeError, OSError) as error:
        message = f"{file}: not a UTF-8 text file: {error}"
        raise DataError(message) from error


def _from_file(file: Path, fields: Fields, split: str | None) -> Iterator[Found]:
    for number, (where, row) in enumerate(_rows(file)):
        yield _entry(where, number, row, fields, split)


def _entry(
    where: str, number: int, row: dict[str, Any], fields: Fields, split: str | None
) -> Found:
    text = _text(where, row, fields.text)
    labels, many = _labels(where, row, fields)
    identifier = str(row.get(fields.id or "id", where))
    return _split(where, row, fields, split), Document(identifier, text, labels), many


def _split(where: str, row: Mapping[str, Any], fields: Fields, split: str | None) -> str:
    name = row.get(fields.split or "split")
    if split is not None or name is None:
        return split or "train"
    if str(name).lower() not in SPLIT_NAMES:
        known = nearest(str(name), SPLIT_NAMES)
        message = f"{where}: field {fields.split or 'split'} cannot be {name!r}; {known}"
        raise DataError(message)
    return SPLIT_NAMES[str(name).lower()]


def _text(where: str, row: Mapping[str, Any], field: str | None) -> tuple[str, ...]:
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


def readable(text: str) -> str:
    r"""Replace halves of surrogate pairs, which JSON can hold and UTF-8 cannot.

    Example:
        >>> readable("a\ud800b")
        'a\ufffdb'
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row)) or "no fields"


def _labels(where: str, row: Mapping[str, Any], fields: Fields) -> tuple[tuple[str, ...], bool]:
    """Read a row's labels, and whether their form allows several."""
    names = fields.labels or tuple(name for name in LABEL_FIELDS if name in row)[:1]
    missing = [name for name in names if name not in row]
    if missing:
        message = f"{where}: no label field {missing[0]}; found {_names(row)}"
        raise DataError(message)
    if len(names) == 1:
        return _label_value(where, names[0], row[names[0]], fields.separator)
    columns = names or _flag_columns(row, fields)
    if not columns:
        usual = ", ".join(LABEL_FIELDS[:2])
        message = f"{where}: no label field ({usual}) and no 0/1 columns; found {_names(row)}"
        raise DataError(message)
    for name in columns:
        if row[name] not in (0, 1, "0", "1", True, False):
            message = f"{where}: field {name} must be 0 or 1; got {row[name]!r}"
            raise DataError(message)
    return tuple(name for name in columns if int(row[name]) == 1), True


def _flag_columns(row: Mapping[str, Any], fields: Fields) -> tuple[str, ...]:
    """Take the columns that hold 0 or 1, if none is called a label."""
    others = {*TEXT_FIELDS, "id", "split", "file", fields.id, fields.split, fields.text}
    return tuple(
        k for k, v in row.items() if k not in others and v in (0, 1, "0", "1", True, False)
    )


def _label_value(
    where: str,
    field: str,
    value: Any,
    separator: str | None,
) -> tuple[tuple[str, ...], bool]:
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = json.loads(value)
        except ValueError as error:
            message = f"{where}: field {field} looks like a JSON list and is none: {value[:40]!r}"
            raise DataError(message) from error
    if isinstance(value, str) and separator:
        value = [part.strip() for part in value.split(separator) if part.strip()]
    if isinstance(value, list):
        wrong = [entry for entry in value if not isinstance(entry, str | int)]
        if not wrong:
            return tuple(dict.fromkeys(str(entry) for entry in value)), True
        value = wrong[0]
    elif isinstance(value, str | int) and str(value) != "":
        return (str(value),), False
    message = f"{where}: field {field} must be a label or a list of labels; got {value!r}"
    raise DataError(message)


def _rows(file: Path) -> Iterator[Row]:
    """Yield every row with the place it stands at."""
    kind = file.suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        return _json_rows(file)
    if kind in (".csv", ".tsv"):
        return _csv_rows(file)
    if kind == ".parquet":
        return _parquet_rows(file)
    message = f"{file}: unknown kind of file; allowed: {', '.join(ENDINGS)}"
    raise DataError(message)


def _json_rows(file: Path) -> Iterator[Row]:
    with file.open("rb") as stream:
        for number in itertools.count(1):
            line = stream.readline(LONGEST_LINE + 1)
            if not line:
                return
            where = f"{file}, line {number}"
            if len(line) > LONGEST_LINE:
                message = f"{where}: longer than {LONGEST_LINE} bytes"
                raise DataError(message)
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                message = f"{where}: not JSON: {error}"
                raise DataError(message) from error
            if not isinstance(row, dict):
                message = f"{where}: expected a JSON object; got {str(row)[:40]!r}"
                raise DataError(message)
            yield where, row


def _csv_rows(file: Path) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_LINE)
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                if None in row or None in row.values():
                    columns = len(reader.fieldnames or ())
                    message = f"{where}: expected {columns} fields, as in the first line"
                    raise DataError(message)
                yield where, dict(row)
        except (csv.Error, UnicodeDecodeError) as error:
            message = f"{file}, line {reader.line_num + 1}: {error}"
            raise DataError(message) from error


def _parquet_rows(file: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(file) as table:
            batches: Iterable[Any] = table.iter_batches(batch_size=256)
            number = 0
            for batch in batches:
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file}, row {number}", row
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        message = f"{file}: not a readable Parquet file: {error}"
        raise DataError(message) from error
