"""The objects of a JSON file of any size, one by one."""

import codecs
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from longdoc.documents.archives import PACKINGS, of_macos
from longdoc.errors import DataError

CHUNK = 2**20
LONGEST_WORD = 16
"""Characters within which a word of JSON, such as a number's start or an escape, is at an end."""
LARGEST_OBJECT = 16 * 2**20
"""Characters that one object may have at most."""


def objects(file: Path, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the objects of a file that holds ``{"field": [...]}``, an array, or one object a line.

    Args:
        file: JSON, or that packed as ``.gz`` or as the only file of a ``.zip``. Bytes that are no
            UTF-8 are read as Windows-1252.
        field: Name of the array.

    Yields:
        The place (file and number of the object) and the object.

    Raises:
        DataError: The file cannot be read, ends too early, or holds something else.
    """
    with opened(file) as stream:
        reader = _Reader(file, stream)
        reader.enter(field)
        yield from reader.items()


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked.

    Raises:
        DataError: It cannot be read, or is damaged.
    """
    try:
        if file.suffix == ".gz":
            with gzip.open(file) as stream:
                yield cast(IO[bytes], stream)
        elif file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                named = (i for i in archive.infolist() if i.filename.lower().endswith(".json"))
                inside = [i for i in named if not of_macos(i.filename)]
                if len(inside) != 1 or inside[0].compress_type not in PACKINGS:
                    message = f"{file}: expected one .json file in it, stored or deflated"
                    raise DataError(message)
                with archive.open(inside[0]) as stream:
                    yield stream
        else:
            with file.open("rb") as stream:
                yield stream
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        message = f"{file} cannot be read: {error}"
        raise DataError(message) from error


def as_windows(error: UnicodeError) -> tuple[str, int]:
    """Read the bytes that are no UTF-8 as Windows-1252."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return bad.decode("cp1252", "replace"), error.end


codecs.register_error("longdoc.windows", as_windows)


class _Reader:
    """A window that moves over the text of a file."""

    def __init__(self, file: Path, stream: IO[bytes]) -> None:
        self.file = file
        self.text = io.TextIOWrapper(stream, encoding="utf-8", errors="longdoc.windows", newline="")
        self.window, self.place, self.count = "", 0, 0
        self.ended = self.inside = self.is_field = False
        self.decoder = json.JSONDecoder()
        self.field = ""

    def more(self) -> bool:
        """Move the window on; say whether there was more."""
        if self.ended:
            return False
        chunk = self.text.read(CHUNK)
        self.ended = not chunk
        self.window = self.window[self.place :] + chunk
        self.place = 0
        return not self.ended

    def next_sign(self, passed: str = " \t\r\n\ufeff") -> str:
        """Go to the next sign that is none of some; empty at the end of the file."""
        while True:
            while self.place < len(self.window) and self.window[self.place] in passed:
                self.place += 1
            if self.place < len(self.window):
                return self.window[self.place]
            if not self.more():
                return ""

    def enter(self, field: str) -> None:
        """Go to the first object: into the array, or into that of the field."""
        self.field = field
        first = self.next_sign()
        if first == "[":
            self.place += 1
            self.inside = True
        elif first == "{":
            start = f'"{field}"'
            while len(self.window) - self.place < 256 and self.more():
                pass
            head = self.window[self.place : self.place + 256]
            inside = head[1:].lstrip()
            if inside.startswith(start) and inside[len(start) :].lstrip()[:1] == ":":
                after = inside[len(start) :].lstrip()[1:].lstrip()
                if not after.startswith("["):
                    self.fail(f"field {field} must be an array")
                self.place += head.index("[") + 1
                self.inside = self.is_field = True
        else:
            self.fail(f"expected a JSON object with an array {field}; got {first!r}")

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        while True:
            sign = self.next_sign(" \t\r\n,\ufeff")
            if not sign and self.inside:
                self.fail("ends before its array does")
            if not sign:
                return
            if sign == "]" and self.inside:
                self.place += 1
                self.leave()
                return
            self.count += 1
            value = self.value()
            if not isinstance(value, dict):
                self.fail(f"object {self.count}: expected a JSON object; got {str(value)[:40]!r}")
            if not self.inside and isinstance(value.get(self.field), list):
                self.fail(f"field {self.field} must be the first of its object")
            yield f"{self.file}, object {self.count}", value

    def leave(self) -> None:
        """See that nothing but the end of the array's object, and other fields of it, follow."""
        sign = self.next_sign()
        if self.is_field and sign == ",":
            return
        if self.is_field and sign != "}":
            self.fail(f"expected }} behind the array {self.field}; got {sign!r}")
        if self.is_field:
            self.place += 1
            sign = self.next_sign()
        if sign:
            self.fail(f"expected the end of the file behind the array; got {sign!r}")

    def value(self) -> Any:
        """Read one value; the window grows until it holds the whole of it."""
        while True:
            try:
                value, self.place = self.decoder.raw_decode(self.window, self.place)
            except (ValueError, RecursionError) as error:
                if len(self.window) - self.place > LARGEST_OBJECT:
                    self.fail(f"object {self.count}: longer than {LARGEST_OBJECT} characters")
                if not self.cut_off(error) or not self.more():
                    self.fail(f"object {self.count}: not JSON: {error}")
            else:
                return value

    def cut_off(self, error: Exception) -> bool:
        """Say whether a value may only be wrong because the window ends in it."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        string = error.msg.startswith("Unterminated string")
        return string or len(self.window) - error.pos < LONGEST_WORD

    def fail(self, what: str) -> NoReturn:
        message = f"{self.file}: {what}"
        raise DataError(message)
