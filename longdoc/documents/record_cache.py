"""Data sets of many small files, read once and kept as one Parquet file.

The kept file is named for the official files (their names, sizes and times) and for the code of
this room; a change of either reads anew. It can be deleted at any time.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from longdoc.documents.archives import cache_folder, checksum, is_own, members
from longdoc.documents.document import Card

ROWS = 2048
"""Records that are in memory twice while a kept file is read or written."""


@dataclass(frozen=True)
class Record:
    """What one official document holds, before a task is chosen.

    Attributes:
        paragraphs: The text, in order.
        fields: Everything else, by name; every record of a data set has the same names.
        heading: Paragraphs at the start that only name the document.
    """

    split: str
    id: str
    paragraphs: tuple[str, ...]
    fields: Mapping[str, tuple[str, ...]]
    heading: int = 0


@dataclass(frozen=True)
class Reading:
    """Everything that was read.

    Attributes:
        records: Sorted by identifier.
        checksum: SHA-256 over the official files; see :func:`longdoc.documents.archives.checksum`.
        beside: Name and content of files that are no documents.
    """

    records: list[Record]
    checksum: str
    beside: dict[str, bytes] = field(default_factory=dict)


def read(
    card: Card,
    place: Path,
    wanted: Callable[[str], bool],
    parse: Callable[[str, bytes], Record],
    beside: Callable[[str], bool] = lambda _: False,
) -> Reading:
    """Read every wanted file of a data set, from what was kept of it if it is the same.

    Args:
        card: The data set's; its name is part of the kept file's.
        place: Folder or archive.
        wanted: Says of a file's name whether it holds a document.
        parse: Turns name and content into a record.
        beside: Says of a file's name whether its content is to be had as it is.

    Raises:
        DataError: A file is damaged, or not what it should be.
    """
    kept = _kept_file(card, place)
    found = _find(kept) if kept is not None else None
    if found is not None:
        return found
    records: list[Record] = []
    extra: dict[str, bytes] = {}

    def noted() -> Iterator[tuple[str, bytes]]:
        for name, content in members(place, lambda name: wanted(name) or beside(name)):
            if beside(name):
                extra[Path(name).name] = content
                continue
            records.append(parse(name, content))
            yield name, content

    digest = checksum(noted())
    reading = Reading(sorted(records, key=lambda r: r.id), digest, extra)
    if kept is not None and records:
        _save(reading, kept)
    return reading


def _kept_file(card: Card, place: Path) -> Path | None:
    """Name the kept file, without its own digest; None where this code cannot be read."""
    code = sorted(Path(__file__).parent.glob("*.py"))
    if not code:
        return None
    sha = hashlib.sha256()
    for part in code:
        sha.update(hashlib.sha256(part.read_bytes()).digest())
    for name, size, changed in _stamps(place):
        sha.update(f"{name}\0{size}\0{changed}\n".encode("utf-8", "surrogateescape"))
    return cache_folder() / "documents" / f"{card.name}-{sha.hexdigest()[:16]}"


def _stamps(place: Path) -> Iterable[tuple[str, int, int]]:
    """Give name, size and time of change of the archive or of every file of the folder.

    Where they lie is no part of it, so that what was checked before it was moved is read once.
    """
    if not place.is_dir():
        about = place.stat()
        return [(place.name, about.st_size, about.st_mtime_ns)]
    found = []
    waiting = [str(place)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif is_own(Path(entry.path), place) if entry.is_symlink() else entry.is_file():
                    about = entry.stat()
                    name = os.path.relpath(entry.path, place)
                    if entry.is_symlink():  # in a hub's cache, to a file named for its content
                        name += "\0" + Path(entry.path).resolve().name
                    found.append((name, about.st_size, about.st_mtime_ns))
    return sorted(found)


def _save(reading: Reading, file: Path) -> None:
    """Write the kept file under a temporary name first; where that cannot be done, do without."""
    about = {"checksum": reading.checksum, "beside": sorted(reading.beside)}
    metadata = {b"longdoc": json.dumps(about).encode()}
    metadata |= {f"beside:{name}".encode(): content for name, content in reading.beside.items()}
    names = list(reading.records[0].fields)
    texts = pa.list_(pa.large_string())
    columns = [("split", pa.string()), ("id", pa.string()), ("heading", pa.int64())]
    columns += [("paragraphs", texts), *((f"field:{name}", texts) for name in names)]
    temporary = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        schema = pa.schema(columns, metadata=metadata)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for start in range(0, len(reading.records), ROWS):
                part = reading.records[start : start + ROWS]
                rows = {
                    "split": [r.split for r in part],
                    "id": [r.id for r in part],
                    "heading": [r.heading for r in part],
                    "paragraphs": [r.paragraphs for r in part],
                    **{f"field:{name}": [r.fields[name] for r in part] for name in names},
                }
                writer.write_table(pa.table(rows, schema=schema))
        temporary.replace(file.with_name(f"{file.name}-{_digest(temporary)}.parquet"))
    except (OSError, pa.ArrowException, UnicodeEncodeError):
        with contextlib.suppress(OSError):
            temporary.unlink()


def _digest(file: Path) -> str:
    """Give the start of a file's SHA-256; a kept file's own stands in its name."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _find(kept: Path) -> Reading | None:
    """Read the kept file; one that is damaged is removed."""
    for file in kept.parent.glob(f"{kept.name}-*.parquet"):
        found = _load(file)
        if found is not None:
            return found
        with contextlib.suppress(OSError):
            file.unlink()
    return None


def _load(file: Path) -> Reading | None:
    try:
        if not file.stem.endswith(_digest(file)):
            return None
        with pq.ParquetFile(file) as table:
            metadata = table.schema_arrow.metadata
            about = json.loads(metadata[b"longdoc"])
            records = [r for batch in table.iter_batches(batch_size=ROWS) for r in _records(batch)]
            beside = {name: metadata[f"beside:{name}".encode()] for name in about["beside"]}
            return Reading(records, about["checksum"], beside)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def _records(batch: pa.RecordBatch) -> Iterator[Record]:
    prefix = "field:"
    fields = [name for name in batch.schema.names if name.startswith(prefix)]
    columns = [_lists(batch.column(name)) for name in fields]
    names = [name.removeprefix(prefix) for name in fields]
    splits, ids = batch.column("split").to_pylist(), batch.column("id").to_pylist()
    rows = zip(
        splits, ids, _lists(batch.column("paragraphs")), batch.column("heading").to_pylist(),
        zip(*columns, strict=True) if columns else [()] * len(ids), strict=True,
    )  # fmt: skip
    for split, identifier, paragraphs, heading, values in rows:
        yield Record(split, identifier, paragraphs, dict(zip(names, values, strict=True)), heading)


def _lists(column: pa.ListArray) -> list[tuple[str, ...]]:
    """Give lists of texts; ten times as fast as ``to_pylist``."""
    start = column.offsets[0].as_py() if len(column.offsets) else 0
    values = column.flatten().to_numpy(zero_copy_only=False).tolist()
    bounds = column.offsets.to_numpy() - start
    return [tuple(values[a:b]) for a, b in pairwise(bounds.tolist())]
