"""A data set in its official layout: a folder, a zip or a tar, read the same way, safely.

Archives are hostile until checked: links and paths that leave the archive are refused, and no
member larger than ``LARGEST_MEMBER`` is read.
"""

import hashlib
import json
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from longdoc.documents.document import Card
from longdoc.errors import DataError

LARGEST_MEMBER = 64 * 2**20
MOST_MEMBERS = 500_000
ENDINGS = (".zip", ".tar.xz", ".tar.gz", ".tgz", ".tar.bz2", ".tar")
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    OSError,
    lzma.LZMAError,
    zlib.error,
    RuntimeError,
)


def search_folders() -> list[Path]:
    """List where data sets are looked for: ``LONGDOC_DATA``, then the cache."""
    folders = [
        Path(entry) for entry in os.environ.get("LONGDOC_DATA", "").split(os.pathsep) if entry
    ]
    return [*folders, cache_folder() / "data"]


def cache_folder() -> Path:
    """Give the folder for what can be made again: ``LONGDOC_CACHE``, or ``~/.cache/longdoc``."""
    return Path(os.environ.get("LONGDOC_CACHE") or Path.home() / ".cache" / "longdoc")


def locate(card: Card, path: str | None = None) -> Path:
    """Find a data set's folder or archive.

    Raises:
        DataError: It is in none of the places; the message says where it was looked for and where
            it can be had.
    """
    if path is not None:
        if Path(path).exists():
            return Path(path)
        message = f"{card.name}: there is nothing at {path}"
        raise DataError(message)
    for folder in search_folders():
        for name in card.layout:
            for candidate in (folder / name, *(folder / (name + end) for end in ENDINGS)):
                if candidate.exists():
                    return candidate
    places = " or ".join(str(folder) for folder in search_folders())
    names = " or ".join(f"{name} (folder, zip or tar)" for name in card.layout)
    message = (
        f"{card.name} is not on this machine: put {names} into {places}, "
        f"or set LONGDOC_DATA to its folder; its home is {card.address}"
    )
    raise DataError(message)


def members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Read the wanted files of a folder or archive.

    Args:
        path: A folder, or an archive with an ending of ``ENDINGS``.
        wanted: Says of a name (relative, with ``/``) whether it is read.

    Yields:
        Name and content; folders in sorted order, archives in their own.

    Raises:
        DataError: The archive is damaged, unsafe or of an unknown kind, or a file is too large.
    """
    if path.is_dir():
        yield from _from_folder(path, wanted)
        return
    try:
        if zipfile.is_zipfile(path):
            yield from _from_zip(path, wanted)
        else:
            yield from _from_tar(path, wanted)
    except DataError:
        raise
    except DAMAGE as error:
        message = f"{path} is damaged or no archive of a known kind ({', '.join(ENDINGS)}): {error}"
        raise DataError(message) from error


def _check(path: Path, name: str, size: int, count: int) -> None:
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts:
        message = f"{path}: member {name!r} points outside the archive"
        raise DataError(message)
    if size > LARGEST_MEMBER:
        message = f"{path}: {name} has {size} bytes; at most {LARGEST_MEMBER} are read"
        raise DataError(message)
    if count > MOST_MEMBERS:
        message = f"{path}: more than {MOST_MEMBERS} members"
        raise DataError(message)


def _from_folder(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    for count, file in enumerate(sorted(path.rglob("*"))):
        name = file.relative_to(path).as_posix()
        if file.is_file() and not file.is_symlink() and wanted(name):
            _check(path, name, file.stat().st_size, count)
            yield name, file.read_bytes()


def _from_zip(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for count, info in enumerate(archive.infolist()):
            _check(path, info.filename, 0, count)
            if not info.is_dir() and wanted(info.filename):
                _check(path, info.filename, info.file_size, count)
                yield info.filename, archive.read(info)


def _from_tar(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for count, info in enumerate(archive):
            _check(path, info.name, 0, count)
            if info.isfile() and wanted(info.name):
                _check(path, info.name, info.size, count)
                stream = archive.extractfile(info)
                if stream is not None:
                    yield info.name, stream.read()


def checksum(files: Iterable[tuple[str, bytes]]) -> str:
    """Give a SHA-256 of files by their own names and contents, whatever they were packed in.

    Example:
        >>> checksum([("b", b"2"), ("x/a", b"1")]) == checksum([("a", b"1"), ("y/b", b"2")])
        True
    """
    lines = sorted(f"{PurePosixPath(n).name} {hashlib.sha256(c).hexdigest()}" for n, c in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def json_object(name: str, content: bytes) -> dict[str, Any]:
    """Read a member that holds one JSON object.

    Raises:
        DataError: It holds something else.
    """
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        message = f"{name}: not a JSON file: {error}"
        raise DataError(message) from error
    if not isinstance(record, dict):
        message = f"{name}: expected one JSON object"
        raise DataError(message)
    return record
