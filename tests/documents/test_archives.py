import gzip
import io
import tarfile
import tracemalloc
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


def test_links_of_a_hubs_cache_are_followed_and_no_others(tmp_path):
    repository = tmp_path / "datasets--x--y"
    snapshot = repository / "snapshots" / "abc" / "Set"
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (repository / "blobs" / "1").write_bytes(b"one")
    (tmp_path / "secret.json").write_bytes(b"no")
    (snapshot / "a.json").symlink_to(repository / "blobs" / "1")
    (snapshot / "b.json").symlink_to(tmp_path / "secret.json")
    for place in (snapshot, snapshot.parent):
        assert [content for _, content in archives.members(place, is_json)] == [b"one"]
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "a.json").symlink_to(repository / "blobs" / "1")
    assert list(archives.members(plain, is_json)) == []


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


def test_an_archive_inside_a_folder_or_an_archive_is_looked_into(tmp_path):
    inner = tarred(tmp_path, "w:gz", ".tar.gz").read_bytes()
    folder = tmp_path / "place"
    folder.mkdir()
    with zipfile.ZipFile(folder / "outer.zip", "w") as archive:
        archive.writestr("readme.txt", b"about")
        archive.writestr("Set.tar.gz", inner)
    for place in (folder / "outer.zip", folder):
        found = list(archives.members(place, is_json))
        assert sorted(content for _, content in found) == [b"one", b"two"]
    assert found[0][0] == "outer.zip/Set.tar.gz/Set/train/a.json"


def test_an_archive_is_looked_into_one_level_deep_only(tmp_path):
    content = tarred(tmp_path).read_bytes()
    for level in range(3):
        file = tmp_path / f"level{level}.zip"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("next.zip" if level else "Set.tar.xz", content)
        content = file.read_bytes()
    assert len(list(archives.members(tmp_path / "level0.zip", is_json))) == 2
    assert list(archives.members(tmp_path / "level1.zip", is_json)) == []


def test_a_damaged_archive_inside_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("inner.zip", b"PK\x03\x04 no")
    with pytest.raises(DataError, match=r"outer\.zip: inner\.zip is damaged"):
        list(archives.members(tmp_path / "outer.zip", is_json))


def test_what_macos_adds_is_not_asked_for(tmp_path):
    file = tmp_path / "Set.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("__MACOSX/Set/train/._a.json", b"no")
        archive.writestr("Set/train/._b.json", b"no")
        archive.writestr("Set/train/a.json", b"one")
    assert [content for _, content in archives.members(file, is_json)] == [b"one"]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(archives, "MOST_BYTES", 5)
    with pytest.raises(DataError, match="unpacks to more than 5 bytes"):
        list(archives.members(pack(tmp_path), is_json))


def test_a_tar_that_only_passes_over_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 5)
    with pytest.raises(DataError, match="unpacks to more than 5 bytes"):
        list(archives.members(tarred(tmp_path), lambda name: False))


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_MEMBERS", 2)
    with pytest.raises(DataError, match="more than 2 members"):
        list(archives.members(zipped(tmp_path), is_json))


def lying_zip(tmp_path, method):
    """Write a zip whose directory says that a large member has ten bytes."""
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("a.json", bytes(100_000_000))
    content = bytearray(file.read_bytes())
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = (10).to_bytes(4, "little")
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("method", "message"),
    [(zipfile.ZIP_DEFLATED, "damaged"), (zipfile.ZIP_BZIP2, "not stored or deflated"),
     (zipfile.ZIP_LZMA, "not stored or deflated")],
)  # fmt: skip
def test_a_zip_that_lies_about_sizes_takes_no_memory(tmp_path, method, message):
    file = lying_zip(tmp_path, method)
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        list(archives.members(file, lambda _: True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_tar_with_a_huge_header_is_refused(tmp_path, kind):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 50_000_000
    file = tmp_path / "bad.tar.gz"
    with gzip.open(file, "wb") as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(50_000_000))
    with pytest.raises(DataError, match="has a header of 50000000 bytes"):
        list(archives.members(file, lambda _: True))


@pytest.mark.parametrize("headers", [{"size": "-1536"}, {"GNU.sparse.size": "-1000000000"},
                                     {"GNU.sparse.map": "a,b"}])  # fmt: skip
def test_a_tar_with_a_size_below_zero_or_holes_is_refused(tmp_path, headers):
    file = tmp_path / "bad.tar"
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.json")
        info.size, info.pax_headers = 3, headers
        archive.addfile(info, io.BytesIO(b"one"))
    with pytest.raises(DataError, match=r"sparse, or has a size below 0|damaged"):
        list(archives.members(file, is_json))


@pytest.mark.parametrize("order", [("a.txt", "x.zip"), ("x.zip", "a.txt")])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_with_a_zip_in_it_is_no_zip(tmp_path, order, mode):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as packed:
        packed.writestr("inner.txt", "within")
    contents = {"a.txt": b"outside", "x.zip": inner.getvalue()}
    file = tmp_path / f"d.tar{mode[1:].replace(':', '.')}"
    with tarfile.open(file, mode) as packed:
        for name in order:
            info = tarfile.TarInfo(name)
            info.size = len(contents[name])
            packed.addfile(info, io.BytesIO(contents[name]))
    found = dict(archives.members(file, lambda name: name.endswith(".txt")))
    assert found == {"a.txt": b"outside", "x.zip/inner.txt": b"within"}
