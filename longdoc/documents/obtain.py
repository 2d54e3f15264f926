"""A data set put where its reader finds it: from the network, or from a copy that a user has.

Nothing counts before it was read and found to be what the card says; the manifest is written last,
so where it stands, the data set is whole.
"""

import contextlib
import json
import os
import posixpath
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from longdoc.documents import archives, catalog, fetch, git_log
from longdoc.documents.catalog import DATASETS, DataSettings
from longdoc.documents.document import Card, Download
from longdoc.errors import DataError
from longdoc.locks import locked
from longdoc.progress import Progress, silent

NEEDS_NOTHING = (*catalog.MADE_HERE, git_log.CARD.name)
SINGLE_ENDINGS = (".json", ".json.gz", ".zip")


@dataclass(frozen=True)
class Obtained:
    """Where a data set is, and what it is.

    Attributes:
        known: Whether its files are the published ones; None where no checksum is known.
        already: Whether it was there before.
    """

    path: Path
    known: bool | None
    already: bool = False


def get(
    name: str,
    *,
    file: str | Path | None = None,
    address: str | None = None,
    progress: Progress = silent,
) -> Obtained:
    """Get a data set, check it, and put it into the cache.

    Args:
        name: Of the catalogue.
        file: A folder or archive that the user has, instead of the network.
        address: Of a mirror, instead of the card's: the file's, or of a set of several files that
            of the folder they lie in.
        progress: Told the share and what is going on.

    Raises:
        UnknownNameError: There is no such data set.
        DataError: It cannot be had, or is not what it should be; nothing half-made is left, but
            for the start of a download, with which the same command goes on.
    """
    card = DATASETS[name]
    if name in NEEDS_NOTHING:
        message = f"{name} is made on this machine: there is nothing to get"
        raise DataError(message)
    home = archives.cache_folder() / "data"
    there = _there(card, home)
    if there is not None:
        return there
    with _alone(home / ".partial" / name) as workplace:
        found = _unlisted(card, home, progress)
        if found is not None:
            return found
        if file is not None:
            return _from_copy(card, Path(file), home, workplace, progress)
        return _from_network(card, address, home, workplace, progress)


def manifest(card: Card, home: Path) -> Path:
    """Name the file that says a data set is whole."""
    return home / f"{card.name}.manifest.json"


def _there(card: Card, home: Path) -> Obtained | None:
    """Give the data set if it was put here before and is still as large as it was."""
    try:
        about = json.loads(manifest(card, home).read_text(encoding="utf-8"))
        path = home / str(about["path"])
        same = [(home / f["file"]).stat().st_size == f["bytes"] for f in about["files"]]
        if same and all(same) and path.resolve().parent == home.resolve():
            return Obtained(path, about["checksum_known"], already=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None


def _unlisted(card: Card, home: Path, progress: Progress) -> Obtained | None:
    """Give what lies in the cache under the data set's name without a manifest, if it is whole.

    A user put it there, or a process ended just before the manifest.

    Raises:
        DataError: It is not whole; it would stand in the way of what is got.
    """
    endings = ("", *archives.ENDINGS, *SINGLE_ENDINGS)
    for name in _names(card):
        for place in (home / (name + ending) for ending in endings):
            if not place.exists():
                continue
            try:
                return _list(card, place, _check(card, place, progress), [{"found": place.name}])
            except DataError as error:
                message = f"{place} is in the way, and not whole; remove it: {error}"
                raise DataError(message) from error
    return None


def _names(card: Card) -> tuple[str, ...]:
    """List the names under which the reader looks for the data set, without endings."""
    tops = dict.fromkeys(PurePosixPath(d.file).parts[0] for d in card.downloads)
    plain = [top for top in tops if not PurePosixPath(top).suffix]
    return tuple(dict.fromkeys([*card.layout, *plain, *([card.single] if card.single else [])]))


@contextlib.contextmanager
def _alone(workplace: Path) -> Iterator[Path]:
    """Keep a second process from writing the same files.

    Raises:
        DataError: Another process is at it.
    """
    workplace.mkdir(parents=True, exist_ok=True)
    mark = workplace / "process"
    try:
        with locked(mark, wait=False) as mine:
            # One that ended just now may have taken away the mark that was opened here.
            if not mine or not mark.exists():
                message = f"another process is getting the same data set, in {workplace}; wait"
                raise DataError(message)
            try:
                yield workplace
            finally:
                mark.unlink(missing_ok=True)
    finally:
        with contextlib.suppress(OSError):  # the start of a download stays
            for folder, _, _ in os.walk(workplace, topdown=False):
                Path(folder).rmdir()
            workplace.parent.rmdir()


def _from_network(
    card: Card, address: str | None, home: Path, workplace: Path, progress: Progress
) -> Obtained:
    wanted = _downloads(card, address)
    files = []
    for number, download in enumerate(wanted):
        target = workplace / download.file

        def tell(share: float, message: str, done: int = number) -> None:
            progress((done + share) / len(wanted), message)

        if not target.is_file():
            part = target.with_name(target.name + ".part")
            fetch.fetch(download, part, tell)
            part.replace(target)
        files.append({"file": download.file, "addresses": list(download.addresses)})
    top = PurePosixPath(wanted[0].file).parts[0]
    try:
        known = _check(card, workplace / top, progress)
    except DataError:
        _remove(workplace / top)  # wrong bytes would be wrong again
        raise
    if known is False:
        _remove(workplace / top)
        message = (
            f"{' and '.join(a for d in wanted for a in d.addresses)} gave files that are not the "
            f"published ones of {card.name} (SHA-256 over the files: expected {card.checksum})"
        )
        raise DataError(message)
    return _place(card, workplace / top, home / top, known, files)


def _downloads(card: Card, address: str | None) -> Sequence[Download]:
    """Say what to get; from a mirror under the card's names.

    Raises:
        DataError: The makers give the data set out to registered people only.
    """
    if not card.downloads:
        message = (
            f"{card.name} has no address to download from: get a copy ({card.address}), then "
            f"longdoc datasets get {card.name} --from FILE"
        )
        raise DataError(message)
    if address is None:
        return card.downloads
    if len(card.downloads) == 1:
        only = card.downloads[0]
        return [Download(file=only.file, addresses=(address,), sha256=only.sha256)]
    paths = {d.file: urlsplit(d.addresses[0]).path for d in card.downloads}
    shared = posixpath.commonpath(paths.values())
    return [
        Download(
            file=d.file,
            addresses=(address.rstrip("/") + paths[d.file].removeprefix(shared),),
            sha256=d.sha256,
        )
        for d in card.downloads
    ]


def _from_copy(
    card: Card, source: Path, home: Path, workplace: Path, progress: Progress
) -> Obtained:
    if not source.exists():
        message = f"there is no file or folder {source}"
        raise DataError(message)
    name = _name(card, source)
    copy = workplace / name
    _remove(copy)
    try:
        progress(0.0, f"copying {source}")
        _copy(source, copy)
        known = _check(card, copy, progress)
        return _place(card, copy, home / name, known, [{"file": name, "copy of": str(source)}])
    finally:
        _remove(copy)


def _name(card: Card, source: Path) -> str:
    """Name a copy so that the reader finds it.

    Raises:
        DataError: It is of no kind that the reader takes.
    """
    names = _names(card)
    lower = source.name.lower()
    files = [name for name in names if PurePosixPath(name).suffix]
    endings = SINGLE_ENDINGS if card.single else archives.ENDINGS if card.layout else ()
    ending = next((end for end in endings if lower.endswith(end)), "")
    if files:
        same = [n for n in files if PurePosixPath(n).suffixes == PurePosixPath(lower).suffixes[-2:]]
        if source.is_file() and same:
            return same[0]
    elif source.is_dir() and not card.single:
        return names[0]
    elif source.is_file() and ending:
        return names[0] + ending
    folder = [] if files or card.single else ["a folder"]
    allowed = " or ".join([*folder, *files, *(f"a file that ends in {end}" for end in endings)])
    message = f"{source} is nothing that {card.name} is read from; allowed: {allowed}"
    raise DataError(message)


def _check(card: Card, place: Path, progress: Progress) -> bool | None:
    """Read every task (of many, the first and last two); say whether the files are published ones.

    Raises:
        DataError: The copy is damaged or not whole.
    """
    known: bool | None = None
    tasks = list(card.tasks)
    for task in tasks if len(tasks) <= 4 else [*tasks[:2], *tasks[-2:]]:
        progress(1.0, f"reading {card.name}, {task}")
        corpus = catalog.load(DataSettings(dataset=card.name, task=task, path=str(place)))
        if "checksum_known" in corpus.notes and card.checksum:
            known = bool(corpus.notes["checksum_known"])
    return known


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or the regular files of a folder."""
    if target.resolve().is_relative_to(source.resolve()):
        message = f"{source} holds {target}, where the copy is to be; name a folder further inside"
        raise DataError(message)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copyfile(source, target)
        return
    for file in source.rglob("*"):
        if archives.is_own(file, source):
            inside = target / file.relative_to(source)
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, inside)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _place(
    card: Card, made: Path, target: Path, known: bool | None, origin: list[dict[str, Any]]
) -> Obtained:
    """Move the whole data set to its place, then write the manifest."""
    made.replace(target)
    return _list(card, target, known, origin)


def _list(
    card: Card, target: Path, known: bool | None, origin: Sequence[Mapping[str, Any]]
) -> Obtained:
    """Write the manifest."""
    home = target.parent
    files = [target] if target.is_file() else sorted(f for f in target.rglob("*") if f.is_file())
    about = {
        "name": card.name,
        "path": target.name,
        "checksum_known": known,
        "licence": card.licence,
        "obtained": datetime.now(UTC).isoformat(timespec="seconds"),
        "longdoc": metadata.version("longdoc"),
        "origin": list(origin),
        "files": [
            {"file": f.relative_to(home).as_posix(), "bytes": f.stat().st_size} for f in files
        ],
    }
    file = manifest(card, home)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(about, indent=1), encoding="utf-8")
    unfinished.replace(file)
    return Obtained(target, known)
