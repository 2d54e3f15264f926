"""Texts without labels, of files and folders, one by one however many there are."""

from collections.abc import Iterator
from pathlib import Path

from longdoc.documents.document import Document
from longdoc.documents.files import SPLIT_NAMES, TEXT_ENDINGS, Fields, plain_text, split_of, text_of
from longdoc.documents.tables import ENDINGS, rows
from longdoc.errors import DataError


def text_files(place: Path) -> list[Path]:
    """List the tables and text files of a folder, at any depth, or the file itself.

    Raises:
        DataError: There are none.
    """
    if not place.is_dir():
        return [place]
    endings = (*ENDINGS, *TEXT_ENDINGS)
    found = [f for f in sorted(place.rglob("*")) if f.suffix.lower() in endings and f.is_file()]
    if not found:
        message = f"{place}: no file in it that ends in {', '.join(endings)}"
        raise DataError(message)
    return found


def read_raw(place: Path, fields: Fields | None = None) -> Iterator[tuple[str, Document]]:
    """Read texts one by one, with the split that a file's name or a field says; else none.

    Args:
        place: A table, a text file (one document), or a folder with such files.
        fields: Names of the columns, where they are not the usual ones.

    Raises:
        DataError: With file, line and field of what is wrong.
    """
    fields = fields or Fields()
    for file in text_files(place):
        named = SPLIT_NAMES.get(file.stem.lower(), "")
        if file.suffix.lower() not in ENDINGS:
            yield named, Document(str(file), plain_text(file), ())
            continue
        for where, row in rows(file):
            says = fields.split is not None or "split" in row
            split = split_of(where, row, fields, None) if says else named
            yield split, Document(where, text_of(where, row, fields.text), ())
