"""Downloads from a real server on this machine that breaks, lies, stalls and serves wrong bytes."""

import hashlib
import subprocess
import sys
import threading

import pytest

from longdoc.documents import fetch
from longdoc.documents.document import Download
from longdoc.errors import DataError

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def plain(handler, number):
    handler.answer(CONTENT, ETag='"1"')


def ranged(handler, number, sent=None, mark='"1"', shift=0):
    start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
    if start and handler.headers.get("If-Range") == mark:
        span = f"bytes {start + shift}-{len(CONTENT) - 1}/{len(CONTENT)}"
        handler.answer(CONTENT[start:], 206, sent, ETag=mark, Content_Range=span)
    else:
        handler.answer(CONTENT, 200, sent, ETag=mark)


def get(server, behaviour, tmp_path, sha256=DIGEST):
    server.behaviours["file"] = behaviour
    download = Download(file="file", addresses=(server.address("file"),), sha256=sha256)
    return fetch.fetch(download, tmp_path / "file.part", lambda share, message: None)


def test_a_file_arrives_whole_and_nothing_else_stays(server, tmp_path):
    assert get(server, plain, tmp_path) == DIGEST
    assert [f.name for f in tmp_path.iterdir()] == ["file.part"]
    assert (tmp_path / "file.part").read_bytes() == CONTENT


def test_a_connection_that_breaks_again_and_again_goes_on_where_it_was(server, tmp_path):
    assert get(server, lambda h, n: ranged(h, n, sent=300_000), tmp_path) == DIGEST
    starts = [int(h.get("Range", "bytes=0-")[6:-1]) for _, h in server.asked]
    assert starts == [0, 300_000, 600_000, 900_000]


def test_a_later_call_goes_on_where_an_earlier_one_ended(server, tmp_path):
    def once(handler, number):
        if number:
            handler.answer(b"", 503)
        else:
            ranged(handler, number, sent=500_000)

    with pytest.raises(DataError, match="broke off after 500000 bytes: status 503; the same"):
        get(server, once, tmp_path)
    server.asked.clear()
    assert get(server, ranged, tmp_path) == DIGEST
    assert server.asked[0][1]["Range"] == "bytes=500000-"


def test_a_server_that_ignores_ranges_starts_anew(server, tmp_path):
    def once(handler, number):
        handler.answer(CONTENT, sent=400_000 if number == 0 else None, ETag='"1"')

    assert get(server, once, tmp_path) == DIGEST


def test_a_file_that_changed_meanwhile_is_taken_from_its_start(server, tmp_path):
    def changed(handler, number):
        if number == 0:
            handler.answer(bytes(len(CONTENT)), sent=400_000, ETag='"0"')
        else:
            ranged(handler, number, mark='"1"')

    assert get(server, changed, tmp_path) == DIGEST


def test_without_a_mark_that_vouches_for_bytes_nothing_is_joined(server, tmp_path):
    def weak(handler, number):
        handler.answer(CONTENT, sent=400_000 if number == 0 else None, ETag='W/"1"')

    assert get(server, weak, tmp_path) == DIGEST
    assert "Range" not in server.asked[1][1]


def test_a_part_from_the_wrong_place_is_not_joined(server, tmp_path):
    def shifted(handler, number):
        ranged(handler, number, sent=300_000 if number == 0 else None, shift=7)

    with pytest.raises(DataError, match="the server sends from byte 300007, not 300000"):
        get(server, shifted, tmp_path)


def test_a_length_that_is_too_long_is_never_reached(server, tmp_path):
    def lying(handler, number):
        handler.answer(CONTENT, length=len(CONTENT) + 10)

    with pytest.raises(DataError, match="broke off after 1048576 bytes"):
        get(server, lying, tmp_path)


def test_a_length_that_is_too_short_gives_another_file(server, tmp_path):
    with pytest.raises(DataError, match=f"gives another file: SHA-256 .*expected {DIGEST}"):
        get(server, lambda h, n: h.answer(CONTENT, length=1000), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_wrong_bytes_are_refused_and_do_not_stay(server, tmp_path):
    with pytest.raises(DataError, match="gives another file"):
        get(server, lambda h, n: h.answer(b"<html>Log in</html>"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_never_ends_is_cut_off(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "LARGEST", 10_000)

    def endless(handler, number):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(bytes(10_000))

    with pytest.raises(DataError, match="at most 10000 are taken"):
        get(server, endless, tmp_path)
    assert not (tmp_path / "file.part").exists()


def test_a_length_beyond_all_bounds_is_refused_before_anything_is_read(server, tmp_path):
    with pytest.raises(DataError, match="at most"):
        get(server, lambda h, n: h.answer(CONTENT, length=10**15), tmp_path)


def test_a_packed_answer_is_refused(server, tmp_path):
    with pytest.raises(DataError, match="sends the file packed in gzip"):
        get(server, lambda h, n: h.answer(CONTENT, Content_Encoding="gzip"), tmp_path)


def test_a_missing_file_is_not_asked_for_twice_and_the_next_address_is_tried(server, tmp_path):
    server.behaviours["gone"] = lambda h, n: h.answer(b"", 404)
    server.behaviours["file"] = plain
    addresses = (server.address("gone"), server.address("file"))
    download = Download(file="file", addresses=addresses, sha256=DIGEST)
    assert fetch.fetch(download, tmp_path / "f", lambda share, message: None) == DIGEST
    assert [path for path, _ in server.asked] == ["/gone", "/file"]
    with pytest.raises(DataError, match="answers with status 404"):
        get(server, lambda h, n: h.answer(b"", 404), tmp_path)


def test_a_redirection_is_followed_but_not_in_a_circle_or_to_a_file(server, tmp_path):
    server.behaviours["real"] = plain
    assert get(server, lambda h, n: h.answer(b"", 302, Location="/real"), tmp_path) == DIGEST
    for target in ("/file", "file:///etc/passwd"):
        with pytest.raises(DataError, match="cannot be followed"):
            get(server, lambda h, n, to=target: h.answer(b"", 302, Location=to), tmp_path)


def test_a_server_that_stalls_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE", (0.2, 0.2))
    monkeypatch.setattr(fetch, "ATTEMPTS", 2)
    wait = threading.Event()
    with pytest.raises(DataError, match="timed out"):
        get(server, lambda h, n: wait.wait(1), tmp_path)


@pytest.mark.parametrize(
    "address",
    ["ftp://127.0.0.1/x", "file:///etc/passwd", "/etc/passwd", "http://[x", "http://",
     "http://127.0.0.1:99999/x"],
)  # fmt: skip
def test_only_the_web_is_asked(tmp_path, address):
    with pytest.raises(DataError, match="is no address of the web"):
        fetch.fetch(Download(file="x", addresses=(address,)), tmp_path / "x", lambda s, m: None)


def test_no_one_there_gives_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    download = Download(file="x", addresses=("http://127.0.0.1:9/x",))
    with pytest.raises(DataError, match=r"broke off after 0 bytes: .*refused"):
        fetch.fetch(download, tmp_path / "x", lambda share, message: None)


def test_parts_that_start_anew_for_ever_come_to_an_end(server, tmp_path):
    def changing(handler, number):
        sent = 50_000 if number % 2 else 20_000
        handler.answer(CONTENT, sent=sent, ETag=f'"{number}"')

    with pytest.raises(DataError, match="broke off"):
        get(server, changing, tmp_path)
    assert len(server.asked) < 15


def test_a_range_that_is_never_satisfied_comes_to_an_end(server, tmp_path):
    def refusing(handler, number):
        if "Range" in handler.headers:
            handler.answer(b"", 416)
        else:
            handler.answer(CONTENT, sent=50_000, ETag='"1"')

    with pytest.raises(DataError, match="broke off"):
        get(server, refusing, tmp_path)
    assert len(server.asked) < 15


def test_a_first_answer_of_416_gives_one_sentence(server, tmp_path):
    with pytest.raises(DataError, match="broke off after 0 bytes"):
        get(server, lambda h, n: h.answer(b"", 416), tmp_path)


@pytest.mark.parametrize("length", ["9" * 5000, "\u00b2", "-1", "x"])
def test_a_length_that_is_no_number_gives_one_sentence_or_the_file(server, tmp_path, length):
    def odd(handler, number):
        handler.send_response(200)
        handler.send_header("Content-Length", length.encode().decode("latin-1"))
        handler.end_headers()
        handler.wfile.write(CONTENT)

    try:
        assert get(server, odd, tmp_path) == DIGEST
    except DataError as error:
        assert server.address("file") in str(error)  # noqa: PT017


def test_a_part_is_not_taken_for_the_whole(server, tmp_path):
    def first_part(handler, number):
        handler.answer(CONTENT[:1000], 206, Content_Range=f"bytes 0-999/{len(CONTENT)}")

    with pytest.raises(DataError, match="1000 of 1048576 bytes came"):
        get(server, first_part, tmp_path)


def test_parts_of_two_versions_are_not_put_together(server, tmp_path):
    old = bytes(len(CONTENT))

    def careless(handler, number):  # goes on with another version than it was asked for
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        if number == 0:
            handler.answer(old, 200, 400_000, ETag='"old"')
        elif start:
            span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            handler.answer(CONTENT[start:], 206, ETag='"new"', Content_Range=span)
        else:
            handler.answer(CONTENT, 200, ETag='"new"')

    assert get(server, careless, tmp_path, sha256="") == DIGEST
    assert (tmp_path / "file.part").read_bytes() == CONTENT


def test_a_full_disk_is_said_and_the_part_stays(server, tmp_path):
    server.behaviours["file"] = ranged
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from longdoc.documents import fetch\n"
        "from longdoc.documents.document import Download\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "download = Download(file='file', addresses=(sys.argv[1],))\n"
        "fetch.fetch(download, Path(sys.argv[2]), lambda share, message: None)\n"
    )
    part = tmp_path / "file.part"
    done = subprocess.run(
        [sys.executable, "-c", script, server.address("file"), str(part)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "DataError" in done.stderr.splitlines()[-1]
    assert "file.part cannot be written" in done.stderr
    assert part.stat().st_size == 300_000


def test_a_part_goes_on_where_the_answer_does_not_repeat_its_mark(server, tmp_path):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"

    def terse(handler, number):  # rfc9110, 15.3.7 asks for the ETag alone to be repeated
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        if start and handler.headers.get("If-Range") == date:
            span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            handler.answer(CONTENT[start:], 206, 300_000, Content_Range=span)
        else:
            handler.answer(CONTENT, 200, 300_000, Last_Modified=date)

    assert get(server, terse, tmp_path) == DIGEST
    assert len(server.asked) == 4


@pytest.mark.parametrize("sign", ["weak", "total"])
def test_a_part_of_another_version_is_dropped_though_its_mark_is_not_repeated(
    server, tmp_path, sign
):
    new = CONTENT[::-1] + b"more"

    def renewed(handler, number):
        if number == 0:
            return handler.answer(CONTENT, 200, 300_000, ETag='"1"')
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        if start:
            whole = len(new) if sign == "total" else len(CONTENT)
            marks = {"ETag": 'W/"2"'} if sign == "weak" else {}
            span = f"bytes {start}-{whole - 1}/{whole}"
            return handler.answer(new[start:whole], 206, Content_Range=span, **marks)
        return handler.answer(new, 200, ETag='"2"')

    whole = hashlib.sha256(new).hexdigest()  # and no mixture of the two, which has another
    with pytest.raises(DataError, match=f"gives another file: SHA-256 {whole}"):
        get(server, renewed, tmp_path)
