"""Files from the network: the only module that opens it.

A server may break off, lie about lengths, send something else, or never end; a file counts only
when it is whole, and what has arrived is not fetched again.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import requests
import urllib3

from longdoc.documents.document import Download
from longdoc.errors import DataError
from longdoc.progress import Progress

ATTEMPTS = 5
"""Attempts in a row that bring nothing new, before a server is given up."""
PAUSE = 1.0
"""Seconds before the second attempt; each further pause is twice as long."""
PATIENCE = (10.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes."""
LARGEST = 16 * 2**30
"""Bytes that a file may have at most."""
CHUNK = 2**18
ADDRESS_ERRORS = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
)
BUSY = (408, 425, 429, 500, 502, 503, 504)


class _BrokenOffError(Exception):
    """The server ended, or stalled, before the file was whole."""


def fetch(download: Download, part: Path, progress: Progress) -> str:
    """Get a file, going on where an earlier attempt ended.

    Args:
        download: Its addresses are tried in order.
        part: Where it is put; beside it stands what is known of the server's copy until it is
            whole.
        progress: Told the share and what is going on.

    Returns:
        Its SHA-256.

    Raises:
        DataError: No address gives the file; what has arrived stays, unless it is wrong.
    """
    reasons = []
    for address in download.addresses:
        _check_address(address)
        try:
            _whole(address, part, progress)
        except DataError as error:
            reasons.append(str(error))
            continue
        digest = sha256(part)
        if not download.sha256 or digest == download.sha256:
            _notes(part).unlink(missing_ok=True)
            return digest
        part.unlink()
        _notes(part).unlink(missing_ok=True)
        reasons.append(
            f"{address} gives another file: SHA-256 {digest}, expected {download.sha256}"
        )
    raise DataError("; ".join(reasons))


def _check_address(address: str) -> None:
    """Refuse what cannot be asked for.

    Raises:
        DataError: It is no address of the web.
    """
    try:
        parts = urlsplit(address)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        message = f"{address} is no address of the web; allowed: http:// and https://"
        raise DataError(message)


def sha256(file: Path) -> str:
    """Give the SHA-256 of a file of any size."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _whole(address: str, part: Path, progress: Progress) -> None:
    """Ask again and again, as long as something new arrives."""
    part.parent.mkdir(parents=True, exist_ok=True)
    vain, reason, most = 0, "", _size(part)
    while vain < ATTEMPTS:
        if vain:
            time.sleep(PAUSE * 2 ** (vain - 1))
        try:
            _ask(address, part, progress)
            return
        except _BrokenOffError as error:
            reason = str(error)
        vain = 0 if _size(part) > most else vain + 1
        most = max(most, _size(part))
    message = f"{address} broke off after {_size(part)} bytes: {reason}; the same command goes on"
    raise DataError(message)


def _ask(address: str, part: Path, progress: Progress) -> None:
    """Send one request, and write what comes.

    Raises:
        _BrokenOffError: The file is not whole yet.
        DataError: There is no use in asking again.
    """
    known = _known(part, address)
    headers = {"Accept-Encoding": "identity", "User-Agent": "longdoc"}
    have = _size(part)
    if have and known.get("mark"):
        headers |= {"Range": f"bytes={have}-", "If-Range": known["mark"]}
    try:
        with requests.get(address, headers=headers, stream=True, timeout=PATIENCE) as answer:
            _take(address, answer, part, have, progress)
    except (requests.TooManyRedirects, *ADDRESS_ERRORS) as error:
        message = f"{address} cannot be followed: {error}"
        raise DataError(message) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _BrokenOffError(_short(error)) from error


def _append(stream: IO[bytes], chunk: bytes, part: Path) -> None:
    try:
        stream.write(chunk)
        stream.flush()
    except OSError as error:
        message = f"{part} cannot be written: {error.strerror}; the same command goes on"
        raise DataError(message) from error


def _mark(answer: requests.Response) -> str:
    """Give what tells versions of a file apart; empty where nothing vouches for its bytes."""
    mark = _given(answer)
    return "" if mark.startswith("W/") else mark


def _given(answer: requests.Response) -> str:
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""


def _same_mark(
    answer: requests.Response, whole: int | None, known: Mapping[str, Any], part: Path
) -> str:
    """See that what comes goes on with the part that is here (rfc9110, 15.3.7.3).

    An answer to a request under a mark need not repeat it (15.3.7).

    Raises:
        _BrokenOffError: It does not; the part is no longer of use.
    """
    mark, given = str(known.get("mark", "")), _given(answer)
    repeated = given.removeprefix("W/") in ("", mark) or (not mark and given.startswith("W/"))
    if repeated and (whole is None or known.get("total") in (None, whole)):
        return mark
    part.unlink(missing_ok=True)
    message = "the copy there has changed since the part that is here came"
    raise _BrokenOffError(message)


def _take(
    address: str, answer: requests.Response, part: Path, have: int, progress: Progress
) -> None:
    if answer.status_code in BUSY:
        message = f"status {answer.status_code}"
        raise _BrokenOffError(message)
    if answer.status_code == 416:  # asked for what is not there: the copy there has changed
        part.unlink(missing_ok=True)
        message = "the part that is here is not of that file"
        raise _BrokenOffError(message)
    if answer.status_code not in (200, 206):
        message = f"{address} answers with status {answer.status_code}"
        raise DataError(message)
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        message = f"{address} sends the file packed in {answer.headers['Content-Encoding']}"
        raise DataError(message)
    start, whole = _span(answer) if answer.status_code == 206 else (0, None)
    if start not in (0, have):
        message = f"the server sends from byte {start}, not {have}"
        raise _BrokenOffError(message)
    length = _number(answer.headers.get("Content-Length", ""))
    total = whole if whole is not None or length is None else start + length
    _check_size(address, total or 0, part)
    known = _known(part, address)
    mark = _same_mark(answer, whole, known, part) if start else _mark(answer)
    part.touch()
    notes = {"address": address, "mark": mark, "total": total}
    _notes(part).write_text(json.dumps(notes), encoding="utf-8")
    name = urlsplit(address).path.rpartition("/")[2]
    with part.open("r+b") as stream:
        stream.truncate(start)
        stream.seek(start)
        for chunk in _chunks(answer):
            _append(stream, chunk, part)
            _check_size(address, stream.tell(), part)
            share = stream.tell() / total if total else 0.0
            progress(min(1.0, share), f"{name}: {stream.tell() / 1e6:.0f} MB")
    if total is not None and _size(part) != total:
        message = f"{_size(part)} of {total} bytes came"
        raise _BrokenOffError(message)


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    """Read the body as it is sent; the library raises where it ends too early."""
    while chunk := answer.raw.read(CHUNK, decode_content=False):
        yield chunk


def _span(answer: requests.Response) -> tuple[int, int | None]:
    """Read where a part starts (-1 if the server does not say) and how long the whole is."""
    given = re.fullmatch(
        r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", answer.headers.get("Content-Range", "")
    )
    return (int(given[1]), _number(given[2])) if given else (-1, None)


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def _check_size(address: str, size: int, part: Path) -> None:
    if size > LARGEST:
        part.unlink(missing_ok=True)
        message = f"{address}: {size} bytes or more; at most {LARGEST} are taken"
        raise DataError(message)


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _known(part: Path, address: str) -> dict[str, Any]:
    """Read what is known of the server's copy; nothing of another server's."""
    try:
        known = json.loads(_notes(part).read_text(encoding="utf-8"))
        return known if isinstance(known, dict) and known.get("address") == address else {}
    except (OSError, ValueError):
        return {}


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _short(error: BaseException) -> str:
    """Give the innermost reason in one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return " ".join(str(error).split())[:200] or type(error).__name__
