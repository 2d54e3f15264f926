"""What is read of own documents, but may not be meant so, in a sentence each."""

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from longdoc.errors import DataWarning

SEPARATORS = (";", "|", ",")


def _say(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=3)


def unparted(place: Path, labels: Iterable[str]) -> None:
    """Say so if labels look like several in one field.

    They do where every part of one is a label by itself or part of another one: such signs also
    stand within names.
    """
    names = set(labels)
    for separator in SEPARATORS:
        parts = {name: _parts(name, separator) for name in names if separator in name}
        times = Counter(part for several in parts.values() for part in several)
        found = (
            name
            for name, several in sorted(parts.items())
            if len(several) > 1 and all(p in names or times[p] > 1 for p in several)
        )
        name = next(found, None)
        if name is not None:
            _say(
                f"{place}: labels with {separator!r} in them, such as {name[:60]!r}, are each read "
                f"as one ({len(parts)} are); data.label_separator parts them"
            )
            return


def _parts(name: str, separator: str) -> frozenset[str]:
    return frozenset(part.strip() for part in name.split(separator) if part.strip())


def unlisted(place: Path, listing: Path, taken: Collection[Path], endings: Sequence[str]) -> None:
    """Say so if text files beside those in the rows of a list of labels stand in no row."""
    known = {file.resolve() for file in taken}
    folders = {place.resolve(), *(file.parent for file in known)}
    left = sorted(
        str(file.relative_to(place.resolve()))
        for folder in folders
        for file in folder.iterdir()
        if file.suffix.lower() in endings
        and not file.name.lower().startswith((".", "readme", "license", "licence"))
        and file.is_file()
        and file.resolve() not in known
    )
    if left:
        _say(
            f"{place}: {len(left)} text files stand in no row of {listing.name}, "
            f"such as {left[0]!r}"
        )


def not_labels(place: Path, columns: Iterable[str]) -> None:
    """Say so if columns beside those of 0 and 1 hold 0.0 or true, and are taken for no labels."""
    left = sorted(columns)
    if left:
        _say(
            f"{place}: labels are the columns that hold 0 or 1; {left[0]!r}, where that is written "
            "in another way, is none; name the label fields (data.label_fields)"
        )


def uneven(place: str, split: str, groups: float, documents: float) -> None:
    """Say so if a split's share of documents is under half, or over double, of that of groups."""
    if not groups / 2 <= documents <= groups * 2:
        _say(
            f"{place}: {split} has {groups:.2g} of the groups and {documents:.2g} of documents: "
            "they are of very different sizes; splits of your own (data.split_field) are an answer"
        )
