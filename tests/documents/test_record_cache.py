"""What was read once is kept, and read anew when the files change or the copy is damaged."""

import json
import os
import random
import tarfile

import pytest

from longdoc.documents import archives, eurlex57k, record_cache
from longdoc.errors import DataError

THESAURUS = {
    "1": {"concept_id": "1", "label": "trade", "parents": []},
    "2": {"concept_id": "2", "label": "tariff", "parents": ["1", "3"]},
    "3": {"concept_id": "3", "label": "tax", "parents": []},
    "4": {"concept_id": "4", "label": "customs", "parents": ["2"]},
}


def write_laws(folder, laws):
    for place, concepts in laws.items():
        file = folder / f"{place}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        law = {
            "celex_id": file.stem, "concepts": concepts, "title": f"Law {file.stem}\n",
            "header": "The Council", "recitals": "Whereas", "main_body": ["Article 1", " ", "x"],
        }  # fmt: skip
        file.write_text(json.dumps(law), encoding="utf-8")
    return folder


@pytest.fixture
def laws(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "EURLEX57K"
    write_laws(
        folder, {"train/a": ["4", "2"], "train/b": ["4"], "dev/c": ["1"], "test/d": ["3", "4"]}
    )
    (folder / "EURLEX57K.json").write_text(json.dumps(THESAURUS), encoding="utf-8")
    return folder


def kept(tmp_path):
    return sorted((tmp_path / "cache" / "documents").iterdir())


def test_the_second_reading_gives_the_same_corpus_without_the_files(laws, tmp_path, monkeypatch):
    first = eurlex57k.load("concepts", str(laws))
    monkeypatch.setattr(record_cache, "members", None)  # would raise if it were called
    second = eurlex57k.load("concepts", str(laws))
    assert second == first
    assert second.digest() == first.digest()
    assert [file.suffix for file in kept(tmp_path)] == [".parquet"]


def test_a_changed_file_is_read_anew(laws):
    eurlex57k.load("concepts", str(laws))
    write_laws(laws, {"train/b": ["2", "3"]})
    labels = {d.id: d.labels for d in eurlex57k.load("concepts", str(laws)).splits["train"]}
    assert labels["train/b"] == ("2", "3")


def test_a_file_of_the_same_size_with_a_newer_time_is_read_anew(laws):
    eurlex57k.load("concepts", str(laws))
    file = laws / "train" / "b.json"
    file.write_text(file.read_text().replace("Whereas", "whereas"))
    os.utime(file, ns=(1, 1))
    text = eurlex57k.load("concepts", str(laws)).splits["train"][1].text
    assert "whereas" in text


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"x" * 5000])
def test_a_damaged_kept_file_is_made_again(laws, tmp_path, damage):
    first = eurlex57k.load("concepts", str(laws))
    (file,) = kept(tmp_path)
    file.write_bytes(damage)
    assert eurlex57k.load("concepts", str(laws)) == first
    assert [f.read_bytes() == damage for f in kept(tmp_path)] == [False]


def test_a_cut_kept_file_is_made_again(laws, tmp_path):
    first = eurlex57k.load("concepts", str(laws))
    (file,) = kept(tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    assert eurlex57k.load("concepts", str(laws)) == first


def test_no_flipped_bit_goes_unseen(laws, tmp_path):
    first = eurlex57k.load("concepts", str(laws))
    (file,) = kept(tmp_path)
    content = file.read_bytes()
    generator = random.Random(0)
    for _ in range(60):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        file.write_bytes(damaged)
        assert eurlex57k.load("concepts", str(laws)) == first


def test_changed_code_of_the_room_reads_anew(laws, tmp_path, monkeypatch):
    eurlex57k.load("concepts", str(laws))
    room = tmp_path / "room"
    room.mkdir()
    (room / "leaks.py").write_text("changed")
    monkeypatch.setattr(record_cache, "__file__", str(room / "record_cache.py"))
    eurlex57k.load("concepts", str(laws))
    assert len(kept(tmp_path)) == 2


def test_a_cache_that_cannot_be_written_does_not_matter(laws, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "file"))
    assert len(eurlex57k.load("concepts", str(laws)).splits["train"]) == 2


def test_texts_that_parquet_cannot_hold_are_read_all_the_same(laws, tmp_path):
    file = laws / "train" / "a.json"
    file.write_text(file.read_text().replace("Whereas", "\\ud800 alone"))
    corpora = [eurlex57k.load("concepts", str(laws)) for _ in range(2)]
    assert "alone" in corpora[0].splits["train"][0].text
    assert corpora[0] == corpora[1]
    assert kept(tmp_path) == []


def test_the_archive_is_kept_apart_from_the_folder(laws, tmp_path):
    with tarfile.open(tmp_path / "EURLEX57K.tar.gz", "w:gz") as archive:
        archive.add(laws, "EURLEX57K")
    folder, packed = (
        eurlex57k.load("concepts", str(p)) for p in (laws, tmp_path / "EURLEX57K.tar.gz")
    )
    assert packed.digest() == folder.digest()
    assert packed.notes["checksum"] == folder.notes["checksum"]
    assert len(kept(tmp_path)) == 2


def test_concepts_have_names_and_those_unseen_in_training_come_last(laws):
    corpus = eurlex57k.load("concepts", str(laws))
    assert corpus.labels == ("4", "2", "1", "3")
    assert corpus.label_names == {"4": "customs", "2": "tariff", "1": "trade", "3": "tax"}
    document = corpus.splits["train"][0]
    assert document.paragraphs[: document.heading] == ("Law a", "The Council")
    assert document.paragraphs[document.heading :] == ("Whereas", "Article 1", "x")


def test_level_1_has_the_tops_above_a_laws_concepts(laws):
    corpus = eurlex57k.load("level-1", str(laws))
    labels = {d.id: d.labels for part in corpus.splits.values() for d in part}
    assert labels == {
        "train/a": ("1", "3"), "train/b": ("1", "3"), "dev/c": ("1",), "test/d": ("3", "1"),
    }  # fmt: skip


def test_parents_that_run_in_a_circle_end(laws):
    circle = {**THESAURUS, "1": {"label": "trade", "parents": ["4"]}}
    (laws / "EURLEX57K.json").write_text(json.dumps(circle), encoding="utf-8")
    assert eurlex57k.load("level-1", str(laws)).labels == ("3",)


def test_top_100_keeps_the_most_frequent(laws, monkeypatch):
    monkeypatch.setattr(eurlex57k, "TOP", 1)
    corpus = eurlex57k.load("top-100", str(laws))
    assert corpus.labels == ("4",)
    assert [d.labels for d in corpus.splits["validation"]] == [()]


def test_level_1_without_descriptors_says_so(laws):
    (laws / "EURLEX57K.json").unlink()
    assert eurlex57k.load("concepts", str(laws)).label_names == {}
    with pytest.raises(DataError, match=r"no EURLEX57K\.json in it, which task level-1 needs"):
        eurlex57k.load("level-1", str(laws))


@pytest.mark.parametrize("entry", ["[]", '{"1": "trade"}', '{"1": {"label": "a", "parents": 3}}'])
def test_damaged_descriptors_are_named(laws, entry):
    (laws / "EURLEX57K.json").write_text(entry, encoding="utf-8")
    with pytest.raises(DataError, match=r"EURLEX57K\.json"):
        eurlex57k.load("concepts", str(laws))


def test_the_cache_lies_where_it_is_told_to(laws, tmp_path):
    eurlex57k.load("concepts", str(laws))
    assert kept(tmp_path)[0].parent == archives.cache_folder() / "documents"


def test_laws_have_their_attachments_and_the_makers_names_of_concepts(laws):
    law = json.loads((laws / "train" / "a.json").read_text(encoding="utf-8"))
    law["attachments"] = ["Annex I", "Annex II"]
    (laws / "train" / "a.json").write_text(json.dumps(law), encoding="utf-8")
    first = eurlex57k.load("concepts", str(laws))
    assert first.splits["train"][0].paragraphs[-3:] == ("x", "Annex I", "Annex II")
    (laws / "EURLEX57K.json").rename(laws / "eurovoc_en.json")
    assert eurlex57k.load("concepts", str(laws)).label_names == first.label_names
    assert eurlex57k.load("level-1", str(laws)).labels
