"""State of the Union addresses, 1790 to 2020: long speeches with their speakers."""

import json
import lzma
from pathlib import Path
from typing import Any

from longdoc.documents.archives import LARGEST_MEMBER, checksum, search_folders
from longdoc.documents.document import Card, Corpus, Document, make_corpus
from longdoc.errors import DataError
from longdoc.settings import short

CARD = Card(
    name="speeches",
    summary="State of the Union addresses, 1790 to 2020: very long, by 42 presidents",
    tasks={"author": "multi-class: the president who gave the address"},
    licence="public domain",
    address="no address known; one JSON object a line with id, author, date and text",
    reference="unitedstates2020union",
    documents={"author": {"train": 240, "validation": 0, "test": 0}},
    checksum="a5cd1dc9b113d1a470544f7fa39db8da20f39f91fc7f9124656608acccb70b12",
    layout=("state_of_the_union.jsonl.xz", "state_of_the_union.jsonl"),
)


def load(task: str, path: str | None = None) -> Corpus:
    """Read every address; their makers give no splits.

    Raises:
        DataError: The file is missing or damaged, or a line is not what it should be.
    """
    found = _locate(path)
    content = _content(found)
    lines = content.decode("utf-8-sig").split("\n")  # texts may hold other signs that end lines
    documents = [_document(found, n, line) for n, line in enumerate(lines, 1) if line.strip()]
    digest = checksum([(CARD.layout[1], content)])
    notes = {"path": str(found), "checksum": digest, "checksum_known": digest == CARD.checksum}
    return make_corpus(CARD.name, task, "multi-class", {"train": documents}, notes=notes)


def _locate(path: str | None) -> Path:
    if path is not None:
        places = [Path(path)]
    else:
        places = [folder / name for folder in search_folders() for name in CARD.layout]
    for place in places:
        if place.is_file():
            return place
    message = (
        f"{CARD.name} is not on this machine: there is no file {' or '.join(map(str, places))}; "
        f"set LONGDOC_DATA to its folder"
    )
    raise DataError(message)


def _content(file: Path) -> bytes:
    """Read the file, unpacked, in UTF-8."""
    try:
        with lzma.open(file) if file.suffix == ".xz" else file.open("rb") as stream:
            content = stream.read(LARGEST_MEMBER + 1)
        if len(content) <= LARGEST_MEMBER:
            content.decode("utf-8")
            return content
    except (lzma.LZMAError, EOFError, OSError, UnicodeDecodeError) as error:
        message = f"{file} is damaged: {error}"
        raise DataError(message) from error
    message = f"{file} unpacks to more than {LARGEST_MEMBER} bytes"
    raise DataError(message)


def _document(file: Path, number: int, line: str) -> Document:
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        message = f"{file}, line {number}: not JSON: {error}"
        raise DataError(message) from error
    fields = ("id", "author", "date", "text")
    if not isinstance(record, dict) or any(field not in record for field in fields):
        message = f"{file}, line {number}: expected an object with {', '.join(fields)}"
        raise DataError(message)
    for field in ("author", "text"):
        if not isinstance(record[field], str):
            message = f"{file}, line {number}: {field} must be text; got {short(record[field])}"
            raise DataError(message)
    identifier = f"{record['date']}-{record['id']}"
    about = {"date": str(record["date"])}
    return Document(identifier, (record["text"],), (record["author"],), about=about)
