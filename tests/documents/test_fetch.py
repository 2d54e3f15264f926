"""Downloads from a real server on this machine that breaks, lies, stalls and serves wrong bytes."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from longdoc.documents import archives, fetch, obtain
from longdoc.documents.catalog import DataSettings, load
from longdoc.documents.document import Download
from longdoc.errors import DataError
from tests.conftest import run_command

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Answers each path by a behaviour, and notes the headers of every request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours, self.asked = {}, []

    def address(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request, client_address):
        """A client that hangs up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        number = sum(path == self.path for path, _ in self.server.asked)
        self.server.asked.append((self.path, dict(self.headers)))
        self.close_connection = True
        self.server.behaviours[self.path.strip("/")](self, number)

    def log_message(self, *_):
        pass

    def answer(self, content, status=200, sent=None, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content[:sent])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    monkeypatch.setattr(fetch, "PATIENCE", (2.0, 2.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


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


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LONGDOC_DATA", "")
    return tmp_path / "cache" / "data"


def left(cache):
    return sorted(f.relative_to(cache).as_posix() for f in cache.rglob("*") if f.is_file())


def test_a_set_is_downloaded_checked_and_found_by_its_reader(server, real_data, cache):
    content = (real_data / "reuters21578.tar.xz").read_bytes()
    half = len(content) // 2

    def breaking(handler, number):
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        extra = {"Content_Range": span} if start else {}
        cut = half if number == 0 else None
        handler.answer(content[start:], 206 if start else 200, cut, ETag='"a"', **extra)

    server.behaviours["reuters.tar.xz"] = breaking
    found = obtain.get("reuters-21578", address=server.address("reuters.tar.xz"))
    assert (found.known, found.already) == (True, False)
    assert left(cache) == ["reuters-21578.manifest.json", "reuters21578.tar.gz"]
    about = json.loads((cache / "reuters-21578.manifest.json").read_text())
    assert about["files"] == [{"file": "reuters21578.tar.gz", "bytes": len(content)}]
    assert len(load(DataSettings(dataset="reuters-21578")).splits["train"]) == 7770
    assert obtain.get("reuters-21578", address="http://127.0.0.1:9/").already
    assert len(server.asked) == 2


def test_a_set_that_is_something_else_leaves_nothing(server, cache):
    server.behaviours["x.zip"] = lambda h, n: h.answer(b"<html>Log in</html>")
    with pytest.raises(DataError, match="no archive of a known kind"):
        obtain.get("echr-acl2019", address=server.address("x.zip"))
    assert left(cache) == []


def test_an_own_copy_is_taken_and_a_wrong_one_is_not(real_data, cache, tmp_path):
    found = obtain.get("speeches", file=real_data / "state_of_the_union.jsonl.xz")
    assert (found.path.name, found.known) == ("state_of_the_union.jsonl.xz", True)
    assert left(cache) == ["speeches.manifest.json", "state_of_the_union.jsonl.xz"]
    (tmp_path / "cut.tar.xz").write_bytes((real_data / "reuters21578.tar.xz").read_bytes()[:90000])
    with pytest.raises(DataError, match="damaged"):
        obtain.get("reuters-21578", file=tmp_path / "cut.tar.xz")
    assert len(left(cache)) == 2


def test_a_folder_is_copied_without_its_links(real_data, cache, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, content in archives.members(
        real_data / "reuters21578.tar.xz", lambda name: name.endswith(".sgm")
    ):
        (folder / name.rpartition("/")[2]).write_bytes(content)
    (folder / "link.sgm").symlink_to("/etc/passwd")
    assert obtain.get("reuters-21578", file=folder).known
    names = left(cache)
    assert len(names) == 23
    assert not any("link" in name for name in names)


def test_a_folder_of_links_is_no_copy(cache, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README").write_text("about")
    (tmp_path / "mine" / "reut2-000.sgm").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="found 0 of 22"):
        obtain.get("reuters-21578", file=tmp_path / "mine")
    assert left(cache) == []


def test_bioasqs_file_is_taken_under_the_readers_name(cache, tmp_path):
    article = {"pmid": "1", "title": "t", "abstractText": "a", "meshMajor": ["H"], "year": "2000"}
    articles = [{**article, "pmid": str(n)} for n in range(60)]
    file = tmp_path / "allMeSH_2022.json"
    file.write_text(json.dumps({"articles": articles}))
    assert obtain.get("pubmed-mesh", file=file).path == cache / "pubmed-mesh.json"
    assert load(DataSettings(dataset="pubmed-mesh")).notes["articles_kept"] == 60


def test_what_a_user_put_there_is_listed_if_whole_and_never_removed(real_data, cache, tmp_path):
    cache.mkdir(parents=True)
    source = real_data / "reuters21578.tar.xz"
    (cache / source.name).symlink_to(source)
    found = obtain.get("reuters-21578", address="http://127.0.0.1:9/")
    assert found.known
    assert "reuters-21578.manifest.json" in left(cache)
    (cache / "ECHR_Dataset").mkdir()
    (cache / "ECHR_Dataset" / "my notes.txt").write_text("mine")
    with pytest.raises(DataError, match="ECHR_Dataset is in the way"):
        obtain.get("echr-acl2019", address="http://127.0.0.1:9/")
    assert (cache / "ECHR_Dataset" / "my notes.txt").exists()


def test_a_mirror_of_several_files_is_asked_for_the_makers_names(server, cache):
    server.behaviours["m/datasets.zip"] = lambda h, n: h.answer(b"PK")
    server.behaviours["m/eurovoc_en.json"] = lambda h, n: h.answer(b"{}")
    with pytest.raises(DataError):
        obtain.get("eurlex57k", address=server.address("m"))
    assert [path for path, _ in server.asked] == ["/m/datasets.zip", "/m/eurovoc_en.json"]
    assert left(cache) == []


@pytest.mark.parametrize("about", [{"files": [], "path": "../../etc"}, {"files": 3}, []])
def test_a_manifest_that_says_nothing_of_files_is_not_believed(cache, about):
    cache.mkdir(parents=True)
    (cache / "reuters-21578.manifest.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="refused"):
        obtain.get("reuters-21578", address="http://127.0.0.1:9/")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pan18-attribution", {}, "get a copy .https://pan.webis.de.*--from FILE"),
        ("synthetic", {}, "there is nothing to get"),
        ("git-log:PATH", {}, "there is nothing to get"),
        ("pubmed-mesh", {"file": "README.md"}, r"allowed: a file that ends in \.json or"),
        ("speeches", {"file": "examples"}, r"allowed: state_of_the_union\.jsonl\.xz or"),
        ("ecthr-cases", {"file": "README.md"}, "allowed: a folder"),
        ("reuters-21578", {"file": "nowhere"}, "there is no file or folder nowhere"),
        ("reuters-21578", {"address": "ftp://x/y"}, "is no address of the web"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_sentence(cache, name, options, message):
    with pytest.raises(DataError, match=message):
        obtain.get(name, **options)
    assert left(cache) == []


def test_a_second_process_at_the_same_set_is_refused(cache):
    workplace = cache / ".partial" / "reuters-21578"
    workplace.mkdir(parents=True)
    (workplace / "process").write_text("1")
    with pytest.raises(DataError, match="process 1 is getting the same data set"):
        obtain.get("reuters-21578", address="http://127.0.0.1:9/")


def test_the_command_says_the_terms_once(real_data, cache, tmp_path):
    source = str(real_data / "pan18-cdaa.tar.xz")
    done = run_command("datasets", "get", "pan18-attribution", "--from", source)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("never redistribute") == 1
    assert "pan18-cdaa.tar.xz: the published files" in done.stdout
    shown = run_command("datasets", "labels", "pan18-attribution", "--format", "csv")
    assert "candidate00001" in shown.stdout
