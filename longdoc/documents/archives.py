"""A data set in its official layout: a folder, a zip or a tar, read the same way, safely.

Archives are hostile until checked: paths that leave the archive are refused, links are passed over,
no member larger than ``LARGEST_MEMBER`` is read, and no more than ``MOST_BYTES`` in all, whatever
the archive says of its sizes. Nothing is ever unpacked to the disk. An archive that lies in a
folder or in another archive is looked into too.
"""

import contextlib
import functools
import hashlib
import io
import json
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from tarfile import HeaderError, ReadError
from typing import Any, Self

from longdoc.documents.document import Card
from longdoc.errors import DataError

LARGEST_MEMBER = 64 * 2**20
MOST_MEMBERS = 500_000
MOST_BYTES = 4 * 2**30
"""Our choice: far above what any set of the catalogue unpacks to, and read through in minutes."""
ENDINGS = (".zip", ".tar.xz", ".tar.gz", ".tgz", ".tar.bz2", ".tar")
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    OSError,
    lzma.LZMAError,
    zlib.error,
    RuntimeError,
    ValueError,
)
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of a zip; only these are unpacked by Python piece by piece, however much there is."""
LONGEST_HEADER = 2**20
ORDINARY = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE,
            tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE)  # fmt: skip
"""Kinds of tar members that are no header of the next one."""
CHUNK = 2**20


def search_folders() -> list[Path]:
    """List where data sets are looked for: ``LONGDOC_DATA``, then the cache."""
    folders = [
        Path(entry) for entry in os.environ.get("LONGDOC_DATA", "").split(os.pathsep) if entry
    ]
    with contextlib.suppress(DataError):  # nowhere to keep things is no reason not to look
        folders.append(cache_folder() / "data")
    return folders


def cache_folder() -> Path:
    """Give the folder for what can be made again: ``LONGDOC_CACHE``, or ``~/.cache/longdoc``.

    Raises:
        DataError: The first is not set, and there is no home.
    """
    try:
        return Path(os.environ.get("LONGDOC_CACHE") or Path.home() / ".cache" / "longdoc")
    except RuntimeError as error:
        message = "there is no home folder for what longdoc keeps; set LONGDOC_CACHE to a folder"
        raise DataError(message) from error


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
        path: A folder, or an archive with an ending of ``ENDINGS``. Links in a folder are passed
            over, but for those of a hub's cache to its own files.
        wanted: Says of a name (relative, with ``/``) whether it is read. Of a file in an archive
            inside, the name starts with that archive's. What macOS adds to archives is not asked
            for.

    Yields:
        Name and content; folders in sorted order, archives in their own.

    Raises:
        DataError: The archive is damaged, unsafe or of an unknown kind, or a file is too large.
    """
    reading = _Reading(path, lambda name: wanted(name) and not of_macos(name))
    if path.is_dir():
        yield from reading.folder(path)
        return
    yield from reading.archive(path, "")


def is_own(file: Path, folder: Path) -> bool:
    """Say whether a file is the folder's own: a link is only as in a hub's cache, to its blobs."""
    return file.is_file() and (not file.is_symlink() or _of_hub(file, folder))


def _of_hub(link: Path, folder: Path) -> bool:
    place = folder.resolve()
    for above in (place, *place.parents):
        if above.parent.name == "snapshots":
            return link.resolve().is_relative_to(above.parent.parent / "blobs")
    return False


def of_macos(name: str) -> bool:
    """Say whether macOS added a file of this name to an archive."""
    pure = PurePosixPath(name)
    return pure.name.startswith("._") or "__MACOSX" in pure.parts


class _BoundedTarInfo(tarfile.TarInfo):
    """A member whose own header is of a size that an honest one has."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        """Read a header; but for the first, one that is damaged is not taken for the end."""
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            # By its name: the type is in tarfile, but not in what mypy knows of it.
            if tarfile.offset == 0 or type(error).__name__ == "EOFHeaderError":
                raise
            message = f"ends before its end mark, or is damaged there: {error}"
            raise ReadError(message) from error

    # The hook that tarfile's source names for subclasses; a header is read whole after it.
    def _proc_member(self, tarfile: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in ORDINARY and not 0 <= self.size <= LONGEST_HEADER:
            message = f"{self.name!r} has a header of {self.size} bytes; at most {LONGEST_HEADER}"
            raise DataError(message)
        found: Any = super()._proc_member(tarfile)  # type: ignore[misc]
        return found


class _Reading:
    """One pass over a place, with what has been read so far."""

    def __init__(self, path: Path, wanted: Callable[[str], bool]) -> None:
        self.path, self.wanted = path, wanted
        self.members = 0
        self.bytes = 0

    def folder(self, path: Path) -> Iterator[tuple[str, bytes]]:
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path).as_posix()
            if not is_own(file, path):
                continue
            if self.wanted(name):
                self.count(name, file.stat().st_size)
                yield name, file.read_bytes()
            elif name.endswith(ENDINGS):
                yield from self.archive(file, name + "/")

    def archive(
        self, source: Path | io.BytesIO, prefix: str, inside: bool = False
    ) -> Iterator[tuple[str, bytes]]:
        """Read an archive whose names get a prefix; one inside an archive is the last level."""
        where = f"{self.path}: {prefix.rstrip('/')}" if prefix else str(self.path)
        try:
            found = self.zip(source) if _is_zip(source) else self.tar(source)
            for name, read in found:
                if self.wanted(prefix + name):
                    yield prefix + name, read()
                elif name.endswith(ENDINGS) and not inside and not of_macos(name):
                    yield from self.archive(io.BytesIO(read()), f"{prefix}{name}/", inside=True)
        except DataError:
            raise
        except DAMAGE as error:
            known = ", ".join(ENDINGS)
            reason = str(error).partition("\n")[0]  # tarfile goes on with a list of its attempts
            message = f"{where} is damaged or no archive of a known kind ({known}): {reason}"
            raise DataError(message) from error

    def zip(self, source: Path | io.BytesIO) -> Iterator[tuple[str, Callable[[], bytes]]]:
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                self.check(info.filename)
                if not info.is_dir():
                    yield info.filename, functools.partial(self.from_zip, archive, info)

    def from_zip(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
        self.count(info.filename, info.file_size)
        if info.compress_type not in PACKINGS:
            message = f"{self.path}: {info.filename} is not stored or deflated"
            raise DataError(message)
        found = bytearray()
        with archive.open(info) as stream:
            while chunk := stream.read(CHUNK):
                found += chunk
                self.count(info.filename, len(found), passed=0)
        return bytes(found)

    def tar(self, source: Path | io.BytesIO) -> Iterator[tuple[str, Callable[[], bytes]]]:
        inside = source if isinstance(source, io.BytesIO) else None
        if inside is not None:
            inside.seek(0)
        name = source if isinstance(source, Path) else None
        with tarfile.open(name, fileobj=inside, tarinfo=_BoundedTarInfo) as archive:
            for info in archive:
                self.check(info.name)
                if info.size < 0 or info.issparse():
                    message = f"{self.path}: {info.name} is sparse, or has a size below 0"
                    raise DataError(message)
                self.count(info.name, 0, passed=info.size)  # what is skipped is unpacked, too
                if info.isfile():
                    yield info.name, functools.partial(self.from_tar, archive, info)

    def from_tar(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
        self.count(info.name, info.size, passed=0)
        stream = archive.extractfile(info)
        return stream.read() if stream is not None else b""

    def check(self, name: str) -> None:
        """Refuse a name that leaves the archive, and too many of them."""
        pure = PurePosixPath(name.replace("\\", "/"))
        self.members += 1
        if not name:
            message = f"{self.path}: a member without a name"
            raise DataError(message)
        if pure.is_absolute() or ".." in pure.parts:
            message = f"{self.path}: member {name!r} points outside the archive"
            raise DataError(message)
        if self.members > MOST_MEMBERS:
            message = f"{self.path}: more than {MOST_MEMBERS} members"
            raise DataError(message)

    def count(self, name: str, size: int, passed: int | None = None) -> None:
        """Refuse a file that is too large to be read, and too much in all.

        Args:
            name: Of the file.
            size: Bytes that are to be held.
            passed: Bytes that are unpacked; as many as are held without.
        """
        self.bytes += size if passed is None else passed
        if size > LARGEST_MEMBER:
            message = f"{self.path}: {name} has {size} bytes; at most {LARGEST_MEMBER} are read"
            raise DataError(message)
        if self.bytes > MOST_BYTES:
            message = f"{self.path}: unpacks to more than {MOST_BYTES} bytes"
            raise DataError(message)


def checksum(files: Iterable[tuple[str, bytes]]) -> str:
    """Give a SHA-256 of files by their own names and contents, whatever they were packed in.

    The folders they lie in are no part of it.

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


def _is_zip(source: Path | io.BytesIO) -> bool:
    """Say whether an archive is a zip; a tar that ends in a zip looks like one from behind."""
    if isinstance(source, Path):
        with source.open("rb") as stream:
            head = stream.read(512)
    else:
        head = source.getvalue()[:512]
    packed = head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ"))
    if packed or head[257:262] == b"ustar":
        return False
    return zipfile.is_zipfile(source)
