"""Published data sets from servers, mirrors and own copies: whole and checked, or not there."""

import json
import subprocess
import sys

import pytest

from longdoc.documents import archives, fetch, obtain
from longdoc.documents.catalog import DataSettings, load
from longdoc.errors import DataError
from tests.conftest import run_command


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LONGDOC_DATA", "")
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
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
    holding = (
        "import sys; from pathlib import Path; from longdoc.locks import locked\n"
        "with locked(Path(sys.argv[1]), wait=False): print('held', flush=True); sys.stdin.read()"
    )
    process = [sys.executable, "-c", holding, str(workplace / "process")]
    with subprocess.Popen(process, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DataError, match="another process is getting the same data set"):
            obtain.get("reuters-21578", address="http://127.0.0.1:9/")
        other.stdin.close()
    with pytest.raises(DataError, match="broke off"):
        obtain.get("reuters-21578", address="http://127.0.0.1:9/")


def test_the_command_says_the_terms_once(real_data, cache, tmp_path):
    source = str(real_data / "pan18-cdaa.tar.xz")
    done = run_command("datasets", "get", "pan18-attribution", "--from", source)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("never redistribute") == 1
    assert "pan18-cdaa.tar.xz: the published files" in done.stdout
    shown = run_command("datasets", "labels", "pan18-attribution", "--format", "csv")
    assert "candidate00001" in shown.stdout
