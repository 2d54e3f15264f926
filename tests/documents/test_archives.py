import io
import tarfile
import zipfile

import pytest

from longdoc.documents import archives
from longdoc.documents.reuters_21578 import CARD
from longdoc.errors import DataError

FILES = {"Set/train/a.json": b"one", "Set/train/b.json": b"two", "Set/readme.txt": b"no"}


def is_json(name):
    return name.endswith(".json")


def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path / "Set"


def zipped(tmp_path):
    with zipfile.ZipFile(tmp_path / "Set.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return tmp_path / "Set.zip"


def tarred(tmp_path, mode="w:xz", ending=".tar.xz"):
    with tarfile.open(tmp_path / f"Set{ending}", mode) as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return tmp_path / f"Set{ending}"


@pytest.mark.parametrize("pack", [folder, zipped, tarred, lambda p: tarred(p, "w:gz", ".tar.gz")])
def test_folder_zip_and_tar_are_read_the_same_way(tmp_path, pack):
    found = list(archives.members(pack(tmp_path), is_json))
    assert sorted(content for _, content in found) == [b"one", b"two"]
    assert archives.checksum(found) == archives.checksum([("a.json", b"one"), ("b.json", b"two")])


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/evil.json", "a/../../evil.json", "..\\e.json"]
)
def test_a_member_that_points_outside_is_refused(tmp_path, name):
    file = tmp_path / "bad.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(DataError, match="points outside the archive"):
        list(archives.members(file, lambda _: True))


def test_links_in_a_tar_are_not_followed(tmp_path):
    file = tmp_path / "bad.tar"
    with tarfile.open(file, "w") as archive:
        info = tarfile.TarInfo("passwd.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert list(archives.members(file, is_json)) == []


def test_a_member_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 2)
    with pytest.raises(DataError, match="has 3 bytes; at most 2 are read"):
        list(archives.members(zipped(tmp_path), is_json))


@pytest.mark.parametrize("cut", [60, 120])
def test_a_damaged_archive_gives_one_sentence(tmp_path, cut):
    file = tarred(tmp_path)
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(DataError, match="is damaged or no archive of a known kind"):
        list(archives.members(file, is_json))


def test_a_file_that_is_no_archive_gives_one_sentence(tmp_path):
    file = tmp_path / "notes.tar.gz"
    file.write_text("hello")
    with pytest.raises(DataError, match="no archive of a known kind"):
        list(archives.members(file, is_json))


def test_a_missing_data_set_says_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("LONGDOC_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"put reuters21578 \(folder, zip or tar\) or"):
        archives.locate(CARD)
    with pytest.raises(DataError, match="there is nothing at"):
        archives.locate(CARD, str(tmp_path / "nowhere"))
