"""Odd but possible inputs of the readers: each is read rightly, or refused in one sentence."""

import io
import json
import random
import tarfile
import zipfile

import numpy as np
import pytest

from longdoc.documents import (
    archives,
    audit,
    catalog,
    duplicates,
    ecthr,
    fetch,
    files,
    git_log,
    json_stream,
    near_copies,
    obtain,
    record_cache,
    speeches,
    splits,
    statistics,
)
from longdoc.documents.catalog import DataSettings
from longdoc.documents.document import Document, make_corpus
from longdoc.documents.files import Fields
from longdoc.errors import DataError, SettingsError


def words(generator, number):
    return [f"w{generator.randrange(10**6)}" for _ in range(number)]


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_texts_that_differ_in_the_last_word_are_told_apart(number):
    generator = random.Random(number)
    for _ in range(20):
        common = words(generator, number - 1)
        texts = [" ".join([*common, *words(generator, 1)]) for _ in range(2)]
        assert near_copies.groups(texts) == []
        documents = [Document(str(n), (text,), ()) for n, text in enumerate(texts)]
        assert duplicates.distinct(documents) == documents
    assert near_copies.groups(["court", "court dismissed"]) == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_text_joins_the_group_of_a_member_that_is_not_its_first(order):
    for seed in range(20):
        first = words(random.Random(seed), 400)
        second = [*first[:393], *words(random.Random(seed + 1000), 7)]
        third = [*words(random.Random(seed + 2000), 38), *second[38:]]
        texts = [" ".join(part) for part in (first, second, third)]
        sets = [near_copies.shingles(text) for text in texts]
        assert near_copies.jaccard(sets[0], sets[1]) > 0.9
        assert near_copies.jaccard(sets[1], sets[2]) > 0.8 > near_copies.jaccard(sets[0], sets[2])
        # A pair at 0.82 is missed once in a thousand, and none of these is.
        assert near_copies.groups([texts[place] for place in order]) == [[0, 1, 2]]


def test_silver_paragraphs_stand_in_their_order_each_once(tmp_path):
    row = {"facts": ["p0", "p1", "p2"], "labels": ["6"], "silver_rationales": [2, 0, 2]}
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({**row, "case_id": name}) + "\n")
    corpus = ecthr.load("violations", str(tmp_path), silver=True)
    assert corpus.splits["test"][0].paragraphs == ("p0", "p2")
    whole = ecthr.load("violations", str(tmp_path)).splits["test"][0]
    assert whole.evidence["silver"] == (0, 2)


def test_labels_that_training_lacks_on_purpose_stay_in_folds():
    parts = {
        "train": [Document("1", ("x",), ("a",)), Document("2", ("y",), ("b",))],
        "validation": [Document("3", ("x",), ("a",))],
        "test": [Document("4", ("z",), ("z",))],
    }
    corpus = make_corpus("made", "own", "multi-label", parts, labels=("a", "b", "z"))
    assert splits.joined(corpus).labels == ("a", "b", "z")
    assert splits.joined(corpus).test_digest() == corpus.test_digest()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"text": None}, "line 1: text must be text; got None"),
     ({"author": ["x"]}, "line 1: author must be text")],
)  # fmt: skip
def test_an_address_without_text_or_author_is_refused(tmp_path, changes, words):
    row = {"id": 1, "author": "A", "date": "1900", "text": "x", **changes}
    (tmp_path / "state_of_the_union.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=words):
        speeches.load("author", str(tmp_path / "state_of_the_union.jsonl"))


def test_addresses_may_hold_signs_that_end_lines_elsewhere(tmp_path):
    row = {"id": 1, "author": "A", "date": "1900", "text": "one\u2028two"}
    other = {**row, "id": 2, "author": "B"}
    lines = [json.dumps(part, ensure_ascii=False) for part in (row, other)]
    content = "\ufeff" + "\n\n".join(lines) + "\n"
    (tmp_path / "state_of_the_union.jsonl").write_text(content, encoding="utf-8")
    corpus = speeches.load("author", str(tmp_path / "state_of_the_union.jsonl"))
    assert corpus.splits["train"][0].text == "one\u2028two"


def tar_of(number):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for place in range(number):
            info = tarfile.TarInfo(f"{place}.txt")
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
    return bytearray(packed.getvalue())


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_tar_that_is_damaged_further_in_is_not_taken_for_a_shorter_one(tmp_path, damage):
    content = tar_of(10)
    if damage == "cut":
        del content[5 * 1024 :]
    else:
        content[5 * 1024 + 10] ^= 1
    (tmp_path / "set.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"set\.tar is damaged"):
        list(archives.members(tmp_path / "set.tar", lambda name: True))


def test_a_zip_with_a_nameless_member_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("x", "content")
    content = (tmp_path / "set.zip").read_bytes()
    place = content.rindex(b"PK\x01\x02")
    changed = bytearray(content[: place + 46] + content[place + 47 :])
    changed[place + 28 : place + 30] = b"\0\0"
    end = changed.rindex(b"PK\x05\x06")
    changed[end + 12 : end + 16] = (46).to_bytes(4, "little")
    (tmp_path / "set.zip").write_bytes(changed)
    with pytest.raises(DataError, match="a member without a name"):
        list(archives.members(tmp_path / "set.zip", lambda name: True))


def test_no_home_is_said_and_does_not_hide_data(monkeypatch, tmp_path):
    def homeless(cls):
        message = "Could not determine home directory."
        raise RuntimeError(message)

    monkeypatch.delenv("LONGDOC_CACHE", raising=False)
    monkeypatch.setenv("LONGDOC_DATA", str(tmp_path))
    monkeypatch.setattr("pathlib.Path.home", classmethod(homeless))
    assert archives.search_folders() == [tmp_path]
    with pytest.raises(DataError, match="set LONGDOC_CACHE"):
        archives.cache_folder()


@pytest.mark.parametrize(
    "text",
    ['{"a":[{}]}{"a":[{}]}', '{"a":[{}]', '[{}]{"x":1}', '{"a":[{}]}xyz', '[{}]}', '{"x":1}\n]\n{}'],
)  # fmt: skip
def test_what_stands_behind_an_array_is_not_passed_over(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError):
        list(json_stream.objects(tmp_path / "x.json", "a"))


@pytest.mark.parametrize(
    "text", ['{"a":[{}]}', '{"a": [{}] }\n', "[{}]\n", "{}\n", '{"a":[{}], "b": 1}']
)
def test_whole_files_are_read(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    assert [value for _, value in json_stream.objects(tmp_path / "x.json", "a")] == [{}]


def test_names_are_hidden_in_every_form_of_unicode():
    text = git_log.anonymous("fix by Jose\u0301 Mun\u0303oz", {"josé", "muñoz"})
    assert text == "fix by AUTHOR AUTHOR"


def test_an_audit_orders_dates_by_time_and_counts_no_empty_copies():
    dates = ("2024-01-02T00:30+09:00", "2024-01-01T20:00-08:00")
    made = [Document(str(n), (f"t{n}",), ("a",), about={"date": d}) for n, d in enumerate(dates)]
    made += [Document(f"e{n}", (" ",), ("a",)) for n in range(3)]
    split = ("there has been a", "violation of Article 6.")
    made.append(Document("leak", split, ("a",)))
    parts = {"train": made, "validation": (), "test": ()}
    found = audit.audit(make_corpus("made", "own", "multi-label", parts))
    assert found.dates["train"] == dates
    assert found.exact.groups == 0
    # The reader of ECHR looks at paragraphs, one by one.
    assert found.leaks["outcome"].documents == {}


def test_a_copy_is_not_made_into_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "EN_train").mkdir()
    (tmp_path / "EN_train" / "x.json").write_text("{}")
    with pytest.raises(DataError, match="where the copy is to be"):
        obtain.get("echr-acl2019", file=str(tmp_path))


def test_lengths_of_no_documents_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        statistics.lengths([])


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"dataset": "examples/letters.jsonl", "path": "x"}, "data.path must be left out for own"),
     ({"dataset": "speeches", "text_field": "x"}, "data.text_field must be left out for speeches"),
     ({"dataset": "speeches", "group_field": "x"}, "data.group_field must be left out")],
)  # fmt: skip
def test_settings_that_would_not_be_looked_at_are_refused(settings, words):
    with pytest.raises(SettingsError, match=words):
        catalog.load(DataSettings(**settings))


@pytest.mark.parametrize("shares", [(0.6, 0.6), (0.5, 0.5)])
def test_shares_that_leave_nothing_to_learn_from_are_refused(tmp_path, shares):
    (tmp_path / "x.json").write_text('{"articles":[]}')
    settings = DataSettings(
        dataset="pubmed-mesh",
        path=str(tmp_path / "x.json"),
        validation_share=shares[0],
        test_share=shares[1],
    )
    with pytest.raises(SettingsError, match=r"validation_share and data\.test_share must be below"):
        catalog.load(settings)


def test_articles_without_text_are_said(tmp_path):
    (tmp_path / "x.json").write_text('{"articles":[{"text": "x", "meshMajor": []}]}')
    with pytest.raises(DataError, match=r"x\.json: of 1 articles none has a title"):
        catalog.load(DataSettings(dataset="pubmed-mesh", path=str(tmp_path / "x.json")))


def own(tmp_path, labels, **fields):
    file = tmp_path / "own.csv"
    rows = [f'"{label}",text' for label in labels]
    file.write_text("\n".join(["labels,text", *rows]))
    return files.load(file, Fields(**fields)).splits["train"]


def test_lists_as_python_writes_them_are_lists(tmp_path):
    found = own(tmp_path, ["['a', 'b']", "('b',)", "[]", "('a', 'c')"])
    assert [document.labels for document in found] == [("a", "b"), ("b",), (), ("a", "c")]


def test_labels_in_brackets_are_labels(tmp_path):
    found = own(tmp_path, ["(a)", "[b]", "(1)"])
    assert [document.labels for document in found] == [("(a)",), ("[b]",), ("(1)",)]


@pytest.mark.parametrize("text", ["['a' 'b']", "[a, b]", "['a', b]"])
def test_what_looks_like_a_list_and_is_none_is_refused(tmp_path, text):
    with pytest.raises(DataError, match="is no list as JSON or Python writes it"):
        own(tmp_path, [text])


def test_an_empty_cell_says_how_no_label_is_written(tmp_path):
    with pytest.raises(DataError, match=r"a document without labels has \[\]"):
        own(tmp_path, ["a", ""])


def test_tables_of_other_forms_say_what_to_do(tmp_path):
    (tmp_path / "a.csv").write_text("id;labels;text\n1;a;x\n")
    with pytest.raises(DataError, match="parted by ;, not by commas"):
        files.load(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes("labels,text\na,Gebühr\n".encode("cp1252"))
    with pytest.raises(DataError, match="not UTF-8; save it so"):
        files.load(tmp_path / "b.csv")


def test_ranges_in_brackets_and_labels_with_a_separator_are_labels(tmp_path):
    ranges = ["(0, 18)", "(18, 65)", "(0.5, 1.5)"]
    assert [document.labels for document in own(tmp_path, ranges)] == [(r,) for r in ranges]
    found = own(tmp_path, ["[Tax, VAT]; [Rent]"], separator=";")
    assert found[0].labels == ("[Tax, VAT]", "[Rent]")
    found = own(tmp_path, ["[A] Children's books;[B] Law [x]"], separator=";")
    assert found[0].labels == ("[A] Children's books", "[B] Law [x]")


@pytest.mark.parametrize(
    ("text", "separator"),
    [("[Tax, VAT]", ","), ("['a' 'b']", " "), ("['Tax; fees', VAT]", ";")],
)
def test_a_separator_does_not_cut_what_brackets_and_quotes_hold_together(tmp_path, text, separator):
    with pytest.raises(DataError, match="is no list as JSON or Python writes it"):
        own(tmp_path, [text], separator=separator)


@pytest.mark.parametrize("name", ["python-imports", "synthetic", "bytecode"])
def test_a_path_that_nothing_is_read_from_is_refused(name):
    with pytest.raises(SettingsError, match=f"data.path must be left out for {name}"):
        catalog.load(DataSettings(dataset=name, path="/nowhere"))


def test_a_group_is_no_label_and_the_same_however_it_is_written(tmp_path):
    (tmp_path / "train.csv").write_text("text,category,fire,water\na,3,1,0\nb,4,0,1\n")
    (tmp_path / "test.csv").write_text("text,category,fire,water\nc,5.0,1,0\n")
    corpus = files.load(tmp_path, Fields(group="category"))
    assert set(corpus.labels) == {"fire", "water"}
    (tmp_path / "test.csv").write_text("text,category,fire,water\nc,3.0,1,0\n")
    with pytest.raises(DataError, match="group '3' stands in train here and in test"):
        files.load(tmp_path, Fields(group="category"))


def test_a_second_snapshot_of_a_hub_is_not_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    card = catalog.DATASETS["eurlex57k"]
    for name, text in (("r1", b"first"), ("r2", b"other")):
        snapshot = tmp_path / "hub" / "snapshots" / name
        snapshot.mkdir(parents=True)
        (tmp_path / "hub" / "blobs").mkdir(exist_ok=True)
        (tmp_path / "hub" / "blobs" / name).write_bytes(text)
        (snapshot / "x.json").symlink_to(tmp_path / "hub" / "blobs" / name)
    names = [
        record_cache._kept_file(card, tmp_path / "hub" / "snapshots" / n) for n in ("r1", "r2")
    ]
    assert names[0] != names[1]


def test_large_groups_of_near_copies_are_found_in_no_time():
    generator = random.Random(0)
    base = words(generator, 300)
    texts = []
    for number in range(1500):
        text = list(base)
        text[number % 300] = f"x{number}"
        texts.append(" ".join(text))
    sets = [near_copies.shingles(text) for text in texts]
    signatures = np.stack([near_copies.signature(part) for part in sets])
    grouping = near_copies._Grouping(sets, signatures, 0.8)
    compared = []
    near = grouping.near
    grouping.near = lambda first, second: compared.append(1) or near(first, second)
    grouping.settle(range(1500))
    assert len(grouping.found()[0]) == 1500
    # Each text is compared with one that it is near to, or with a few that it is not.
    assert len(compared) < 20 * 1500


def test_a_failed_get_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    with pytest.raises(DataError):
        obtain.get("reuters-21578", address="http://127.0.0.1:9/")
    assert [f for f in (tmp_path / "cache").rglob("*") if f.name != "data"] == []


def test_settings_of_own_documents_are_refused_for_a_repository():
    with pytest.raises(SettingsError, match=r"data\.group_field must be left out for git-log:"):
        catalog.load(DataSettings(dataset="git-log:.", group_field="client"))


@pytest.mark.parametrize(
    "forms", [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("FALSE", "TRUE")]
)
@pytest.mark.parametrize("named", [True, False])
def test_columns_of_zero_and_one_are_read_in_every_form_that_tables_have(tmp_path, forms, named):
    file = tmp_path / "letters.csv"
    rows = ["text,noise,rent", *(f"letter {n},{forms[n % 2]},{forms[1]}" for n in range(12))]
    file.write_text("\n".join(rows) + "\n")
    fields = {"label_fields": ("noise", "rent")} if named else {}
    corpus = catalog.load(DataSettings(dataset=str(file), **fields))
    found = {d.id: d.labels for part in corpus.splits.values() for d in part}
    assert sorted(map(sorted, found.values())) == [["noise", "rent"]] * 6 + [["rent"]] * 6


def test_a_measure_beside_columns_of_zero_and_one_is_no_label(tmp_path):
    file = tmp_path / "letters.csv"
    rows = ["text,noise,rent,sum", *(f"letter {n},{n % 2},1,{n / 2}" for n in range(12))]
    file.write_text("\n".join(rows) + "\n")
    assert catalog.load(DataSettings(dataset=str(file))).labels == ("rent", "noise")
    (tmp_path / "x.jsonl").write_text('{"text": "a", "noise": 1.0, "rent": 0.5}\n')
    with pytest.raises(DataError, match=r"field rent must be 0 or 1; got 0\.5"):
        catalog.load(
            DataSettings(dataset=str(tmp_path / "x.jsonl"), label_fields=("noise", "rent"))
        )
