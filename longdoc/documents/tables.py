"""Rows of a table in a file: JSON Lines, CSV or Parquet, a few of them in memory at a time."""

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from longdoc.errors import DataError

ENDINGS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
LONGEST_LINE = 64 * 2**20
"""Bytes of a line, characters of a text: a decision of the project."""
PARQUET_ROWS = 16
"""Rows at a time, a decision of the project: a small file can hold one long text in many rows."""
Row = tuple[str, dict[str, Any]]


def rows(file: Path) -> Iterator[Row]:
    """Yield every row of a table with the place it stands at.

    Raises:
        DataError: The file is no table of a known kind, or damaged.
    """
    kind = file.suffix.lower()
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        raise DataError(message) from error
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
        reader = csv.DictReader(_lines(stream, file), delimiter=delimiter, strict=True)
        try:
            names = reader.fieldnames or ()
            _check_names(file, names)
            if len(names) == 1 and ";" in names[0]:
                message = f"{file}: columns are parted by ;, not by commas; save it with commas"
                raise DataError(message)
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                if None in row or None in row.values():
                    columns = len(reader.fieldnames or ())
                    message = f"{where}: expected {columns} fields, as in the first line"
                    raise DataError(message)
                yield where, dict(row)
        except UnicodeDecodeError as error:
            message = f"{file}, line {reader.line_num + 1} or later: not UTF-8; save it so: {error}"
            raise DataError(message) from error
        except csv.Error as error:
            message = f"{file}, line {reader.line_num + 1}: {error}"
            raise DataError(message) from error


def _lines(stream: TextIO, file: Path) -> Iterator[str]:
    """Give the lines of a text file, none longer than ``LONGEST_LINE``."""
    for number in itertools.count(1):
        line = stream.readline(LONGEST_LINE + 1)
        if not line:
            return
        if len(line) > LONGEST_LINE:
            message = f"{file}, line {number}: longer than {LONGEST_LINE} characters"
            raise DataError(message)
        yield line


def _check_names(file: Path, names: Sequence[str]) -> None:
    """Refuse two columns of one name, of which only one would be read."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        message = f"{file}: more than one column is called {twice[0]!r}"
        raise DataError(message)


def _parquet_rows(file: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(file) as table:
            _check_names(file, table.schema_arrow.names)
            batches: Iterable[Any] = table.iter_batches(batch_size=PARQUET_ROWS)
            number = 0
            for batch in batches:
                for row in batch.to_pylist():
                    number += 1
                    where = f"{file}, row {number}"
                    if any(isinstance(v, str) and len(v) > LONGEST_LINE for v in row.values()):
                        message = f"{where}: a text is longer than {LONGEST_LINE} characters"
                        raise DataError(message)
                    yield where, row
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        if isinstance(error, DataError):
            raise
        message = f"{file}: not a readable Parquet file: {error}"
        raise DataError(message) from error


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
