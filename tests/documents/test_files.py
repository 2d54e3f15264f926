"""Own documents in every form, and one sentence for everything that can be wrong with them."""

import json
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longdoc.documents import files, tables
from longdoc.documents.files import Fields
from longdoc.errors import DataError, DataWarning
from tests.conftest import write_jsonl

ROWS = [
    {"id": "a", "split": "train", "text": "one", "labels": ["x", "y"]},
    {"id": "b", "split": "train", "text": "two", "labels": []},
    {"id": "c", "split": "dev", "text": ["three", "four"], "labels": ["y"]},
    {"id": "d", "split": "test", "text": "five", "labels": ["x"]},
]


def test_json_lines_with_lists_are_multi_label(tmp_path):
    corpus = files.load(write_jsonl(tmp_path / "d.jsonl", ROWS))
    assert corpus.kind == "multi-label"
    assert corpus.labels == ("x", "y")
    assert [d.text for d in corpus.splits["validation"]] == ["three\nfour"]
    assert corpus.truth(corpus.splits["train"]).tolist() == [[True, True], [False, False]]


def test_parquet_reads_like_json_lines(tmp_path):
    rows = [{**row, "text": "\n".join(row["text"]) if isinstance(row["text"], list) else row["text"]}
            for row in ROWS]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    corpus = files.load(tmp_path / "d.parquet")
    assert corpus.truth(corpus.splits["train"]).tolist() == [[True, True], [False, False]]


def test_csv_with_one_label_column_is_multi_class(tmp_path):
    (tmp_path / "d.csv").write_text('text,label\n"a, with comma",p\nb,q\nc,r\n', encoding="utf-8")
    corpus = files.load(tmp_path / "d.csv")
    assert corpus.kind == "multi-class"
    assert corpus.splits["train"][0].text == "a, with comma"


def test_two_labels_are_binary_with_the_rarer_one_positive(tmp_path):
    (tmp_path / "d.csv").write_text("text,label\na,yes\nb,no\nc,no\n", encoding="utf-8")
    corpus = files.load(tmp_path / "d.csv")
    assert (corpus.kind, corpus.labels) == ("binary", ("no", "yes"))


def test_a_separator_splits_labels(tmp_path):
    (tmp_path / "d.csv").write_text("text,label\na,p; q\nb,q\n", encoding="utf-8")
    corpus = files.load(tmp_path / "d.csv", Fields(separator=";"))
    assert corpus.kind == "multi-label"
    assert corpus.splits["train"][0].labels == ("p", "q")


@pytest.mark.parametrize("fields", [None, Fields(labels=("red", "blue"))])
def test_columns_of_0_and_1_are_labels(tmp_path, fields):
    (tmp_path / "d.csv").write_text("text,red,blue\na,1,0\nb,1,1\nc,0,0\n", encoding="utf-8")
    corpus = files.load(tmp_path / "d.csv", fields)
    assert corpus.labels == ("red", "blue")
    assert [d.labels for d in corpus.splits["train"]] == [("red",), ("red", "blue"), ()]


def test_columns_by_name(tmp_path):
    row = {"body_en": "one", "themes": ["x"], "key": "k1", "part": "train"}
    file = write_jsonl(tmp_path / "d.jsonl", [row, {**row, "key": "k2", "themes": ["y"]}])
    corpus = files.load(file, Fields(text="body_en", labels=("themes",), id="key", split="part"))
    assert [d.id for d in corpus.splits["train"]] == ["k1", "k2"]


def test_half_a_surrogate_pair_and_a_nul_do_not_stop_anything(tmp_path):
    (tmp_path / "d.jsonl").write_text(
        '{"text": "a\\ud800b", "label": "x"}\n{"text": "c\\u0000d", "label": 7}\n', encoding="utf-8"
    )
    texts = [d.text for d in files.load(tmp_path / "d.jsonl").splits["train"]]
    assert texts == ["a\ufffdb", "c\x00d"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"\xef\xbb\xbftext,label\r\na,x\r\nb,y\r\n")
    assert [d.text for d in files.load(tmp_path / "d.csv").splits["train"]] == ["a", "b"]
    (tmp_path / "e.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a", "label": ["x"]}\n')
    assert files.load(tmp_path / "e.jsonl").splits["train"][0].text == "a"


def test_a_folder_with_a_file_a_split(tmp_path):
    for name, row in (("train", ROWS[0]), ("val", ROWS[2]), ("test", ROWS[3])):
        write_jsonl(tmp_path / f"{name}.jsonl", [{k: v for k, v in row.items() if k != "split"}])
    corpus = files.load(tmp_path)
    assert {split: len(part) for split, part in corpus.splits.items()} == {
        "train": 1, "validation": 1, "test": 1,
    }  # fmt: skip


def test_a_folder_with_a_file_a_document(tmp_path):
    (tmp_path / "one.txt").write_text("first\n\nsecond", encoding="utf-8")
    (tmp_path / "two.txt").write_text("third", encoding="utf-8")
    (tmp_path / "labels.csv").write_text("file,label\none.txt,p\ntwo,q\n", encoding="utf-8")
    corpus = files.load(tmp_path)
    assert [d.paragraphs for d in corpus.splits["train"]] == [("first", "second"), ("third",)]


def test_a_labels_file_cannot_reach_outside_its_folder(tmp_path):
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "labels.csv").write_text("file,label\n../secret.txt,p\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"labels.csv, line 2: field file: there is no"):
        files.load(inside)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "line 2: not JSON"),
        ("[1]", "line 2: expected a JSON object"),
        ('{"labels": ["x"]}', "line 2: no text field; found labels"),
        (
            '{"text": 5, "labels": ["x"]}',
            "line 2: field text must be text or a list of texts; got '5'",
        ),
        ('{"text": " ", "labels": ["x"]}', "line 2: field text is empty"),
        (
            '{"text": "a"}',
            "line 2: no label field labels; found text",
        ),
        (
            '{"text": "a", "labels": [null]}',
            "line 2: field labels must be a label or a list of labels",
        ),
        ('{"text": "a", "labels": {}}', "line 2: field labels must be a label or a list of labels"),
        (
            '{"text": "a", "labels": [], "split": "trian"}',
            "field split cannot be 'trian'; did you mean train",
        ),
    ],
)
def test_what_is_wrong_is_said_with_line_and_field(tmp_path, line, message):
    file = tmp_path / "d.jsonl"
    file.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        files.load(file)
    assert str(file) in str(caught.value)


def test_csv_with_a_field_too_many(tmp_path):
    (tmp_path / "d.csv").write_text("text,label\na,p\nb,q,r\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 3: expected 2 fields"):
        files.load(tmp_path / "d.csv")


def test_csv_that_is_not_utf_8(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"text,label\n\xff\xfe,p\n")
    with pytest.raises(DataError, match="utf-8"):
        files.load(tmp_path / "d.csv")


def test_a_damaged_parquet_file(tmp_path):
    (tmp_path / "d.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        files.load(tmp_path / "d.parquet")


def test_an_identifier_twice(tmp_path):
    with pytest.raises(DataError, match=r"line 2: id 'a' stands already in .*line 1"):
        files.load(write_jsonl(tmp_path / "d.jsonl", [ROWS[0], ROWS[0]]))


def test_another_kind_of_file(tmp_path):
    (tmp_path / "d.docx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"unknown kind of file; allowed: .jsonl"):
        files.load(tmp_path / "d.docx")


def test_what_columns_hold_labels_is_settled_by_the_first_row(tmp_path):
    (tmp_path / "d.csv").write_text("text,sport,law\na,1,0\nb,0,yes\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 3: field law must be 0 or 1; got 'yes'"):
        files.load(tmp_path / "d.csv")


def test_a_table_without_labels_says_so(tmp_path):
    with pytest.raises(
        DataError, match=r"no label field \(labels, label\) and no 0/1 columns; found text"
    ):
        files.load(write_jsonl(tmp_path / "d.jsonl", [{"text": "a"}]))


@pytest.mark.parametrize("fields", [Fields(split="flod"), Fields(id="idd"), Fields(text="txt")])
def test_a_column_that_was_named_must_be_there(tmp_path, fields):
    with pytest.raises(DataError, match="line 1: no field"):
        files.load(write_jsonl(tmp_path / "d.jsonl", ROWS), fields)


def test_a_label_in_brackets_is_a_label(tmp_path):
    (tmp_path / "d.csv").write_text("text,label\na,[deleted]\nb,x\n", encoding="utf-8")
    assert files.load(tmp_path / "d.csv").splits["train"][0].labels == ("[deleted]",)


def test_documents_without_identifier_are_named_by_their_place_in_the_file(tmp_path):
    rows = [{"text": "a", "label": "x", "id": None}, {"text": "b", "label": "y", "id": None}]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    found = [files.load(write_jsonl(tmp_path / f / "d.jsonl", rows)) for f in ("one", "two")]
    assert [d.id for d in found[0].splits["train"]] == ["d.jsonl, line 1", "d.jsonl, line 2"]


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LONGEST_LINE", 20)
    with pytest.raises(DataError, match="line 1: longer than 20 bytes"):
        files.load(write_jsonl(tmp_path / "d.jsonl", ROWS))
    (tmp_path / "d.csv").write_text("text,label\na,b\n" + "c" * 21 + ",d\n")
    with pytest.raises(DataError, match="line 3: longer than 20 characters"):
        files.load(tmp_path / "d.csv")
    pq.write_table(pa.table({"text": ["a" * 21], "label": ["b"]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="row 1: a text is longer than 20 characters"):
        files.load(tmp_path / "d.parquet")


def test_texts_without_labels_for_prediction(tmp_path):
    file = write_jsonl(tmp_path / "d.jsonl", [{"id": "q", "text": "a"}, {"text": "b"}])
    (tmp_path / "plain.txt").write_text("c", encoding="utf-8")
    read = [*files.read_texts(file), *files.read_texts(tmp_path / "plain.txt")]
    assert [d.id for d in read] == ["q", "d.jsonl, line 2", "plain.txt"]


@pytest.mark.parametrize(
    ("values", "kind", "labels"),
    [
        ("12310", "multi-class", {"0", "1", "2", "3"}),
        ("12121", "binary", {"1", "2"}),
        ("01011", "binary", {"0", "1"}),
        ("11000", "binary", {"0", "1"}),
    ],
)
def test_a_single_column_that_was_named_holds_labels_whatever_they_are(
    tmp_path, values, kind, labels
):
    rows = "".join(f"text {place},{value}\n" for place, value in enumerate(values))
    (tmp_path / "d.csv").write_text("text,stars\n" + rows)
    corpus = files.load(tmp_path / "d.csv", Fields(labels=("stars",)))
    assert (corpus.kind, set(corpus.labels)) == (kind, labels)
    assert [d.labels for d in corpus.splits["train"]] == [(value,) for value in values]


def test_a_column_without_a_name_is_no_label(tmp_path):
    (tmp_path / "d.csv").write_text(",text,war,sport\n0,a,1,0\n1,b,0,1\n2,c,1,1\n")
    assert set(files.load(tmp_path / "d.csv").labels) == {"war", "sport"}


def test_labels_that_later_rows_bring_are_not_lost(tmp_path):
    rows = [{"text": "a", "sport": 1}, {"text": "b", "sport": 0, "war": 1}]
    with pytest.raises(DataError, match="line 2: the first row has no field 'war'"):
        files.load(write_jsonl(tmp_path / "d.jsonl", rows))
    corpus = files.load(tmp_path / "d.jsonl", Fields(labels=("sport",)))
    assert [d.labels for d in corpus.splits["train"]] == [("1",), ("0",)]
    rows = [{"text": "a", "sport": 1, "number": 1}, {"text": "b", "sport": 0, "number": 2}]
    with pytest.raises(DataError, match="number must be 0 or 1; got 2; the first row has 0 or 1"):
        files.load(write_jsonl(tmp_path / "d.jsonl", rows))


def test_a_split_in_two_files_is_refused(tmp_path):
    for name in ("train.csv", "dev.csv"):
        (tmp_path / name).write_text("text,label\na,b\nc,d\n")
    assert len(files.load(tmp_path).splits["validation"]) == 2
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(DataError, match=r"train.csv and train.jsonl are both train; keep one"):
        files.load(tmp_path)


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "d.csv").write_text("text,label,label\na,b,c\n")
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    table = pa.Table.from_arrays(columns, names=["text", "label", "label"])
    pq.write_table(table, tmp_path / "d.parquet")
    for name in ("d.csv", "d.parquet"):
        with pytest.raises(DataError, match="more than one column is called 'label'"):
            files.load(tmp_path / name)


@pytest.mark.parametrize("labels", [[""], ["a", " "], "", " ", ["[" * 100_000 + "]" * 100_000, ""]])
def test_labels_that_are_none_are_refused(tmp_path, labels):
    with pytest.raises(DataError, match="none of them empty"):
        files.load(write_jsonl(tmp_path / "d.jsonl", [{"text": "a", "labels": labels}]))


def test_blanks_around_a_label_are_not_of_it(tmp_path):
    rows = [{"text": "a", "labels": ["x", " x"]}, {"text": "b", "labels": ["y "]}]
    corpus = files.load(write_jsonl(tmp_path / "d.jsonl", rows))
    assert [d.labels for d in corpus.splits["train"]] == [("x",), ("y",)]
    deep = "[" * 100_000 + "]" * 100_000
    rows = [{"text": "a", "label": deep}, {"text": "b", "label": "y"}]
    assert files.load(write_jsonl(tmp_path / "e.jsonl", rows)).kind == "binary"


def test_a_parquet_file_with_dates_beyond_the_calendar_is_refused(tmp_path):
    columns = {"text": ["a"], "label": ["b"], "when": pa.array([2**62], pa.timestamp("us"))}
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        files.load(tmp_path / "d.parquet")


def test_a_group_column_says_which_documents_belong_together(tmp_path):
    rows = [
        {"text": "a", "label": "x", "client": 7},
        {"text": "b", "label": "y", "client": None},
        {"text": "c", "label": "y", "client": float("nan")},
    ]
    table = pa.Table.from_pydict({name: [row[name] for row in rows] for name in rows[0]})
    pq.write_table(table, tmp_path / "own.parquet")
    corpus = files.load(tmp_path / "own.parquet", Fields(group="client"))
    assert [document.group for document in corpus.splits["train"]] == ["7", "", ""]


def test_a_group_in_two_splits_is_refused(tmp_path):
    rows = [
        {"text": "a", "label": "x", "client": "c", "split": "train"},
        {"text": "b", "label": "y", "client": "", "split": "train"},
        {"text": "b", "label": "y", "client": "", "split": "test"},
        {"text": "c", "label": "y", "client": "c", "split": "test"},
    ]
    place = write_jsonl(tmp_path / "own.jsonl", rows)
    with pytest.raises(
        DataError, match=r"own\.jsonl, line 4: group 'c' stands in test here and in train"
    ):
        files.load(place, Fields(group="client"))
    assert len(files.load(place).splits["test"]) == 2


def test_a_group_column_holds_no_label(tmp_path):
    rows = [{"text": "a", "wheat": 1, "client": 0}, {"text": "b", "wheat": 0, "client": 1}]
    place = write_jsonl(tmp_path / "own.jsonl", rows)
    assert files.load(place, Fields(group="client")).labels == ("wheat",)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["tax;work", "tax", "work"], "labels with ';' in them, such as 'tax;work'"),
        (["tax|work", "work|home", "home"], "such as 'work|home', are each read as one (2 are)"),
        (["tax, work", "tax", "work"], "labels with ',' in them"),
        (["Rome, Italy", "Paris, Italy", "Italy"], None),
        (["Crime | Theft", "Crime | Fraud"], None),
        (["a;b", "c", "d"], None),
    ],
)
def test_labels_that_look_like_several_are_told(tmp_path, labels, said, recwarn):
    rows = [{"text": "one", "label": label} for label in labels]
    file = write_jsonl(tmp_path / "d.jsonl", rows)
    assert set(files.load(file).labels) == set(labels)
    told = [str(w.message) for w in recwarn if w.category is DataWarning]
    assert len(told) == (said is not None)
    assert said is None or said in told[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files.load(file, Fields(separator="/"))  # who names a separator knows


def test_text_files_without_a_row_are_told(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "notes.txt").mkdir()
    for name in ("a.txt", "b.txt", "in/d.txt", "README.md", "._a.txt"):
        (tmp_path / name).write_text("words", encoding="utf-8")
    rows = f"file,label\n{tmp_path / 'a.txt'},p\nb,q\nin/d.txt,q\n"
    (tmp_path / "labels.csv").write_text(rows, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(files.load(tmp_path).splits["train"]) == 3
    for name in ("c.txt", "in/e.txt"):
        (tmp_path / name).write_text("words", encoding="utf-8")
    with pytest.warns(DataWarning, match=r"2 text files stand in no row of labels.csv, .* 'c.txt'"):
        assert len(files.load(tmp_path).splits["train"]) == 3


@pytest.mark.parametrize("last", ["1.0", ""])
def test_columns_that_hold_zero_and_one_in_another_way_are_told(tmp_path, last):
    rows = f"text,red,blue\na,1,0.0\nb,1,{last}\n"
    (tmp_path / "d.csv").write_text(rows, encoding="utf-8")
    with pytest.warns(DataWarning, match="'blue', where that is written in another way, is none"):
        assert files.load(tmp_path / "d.csv").labels == ("red",)


def test_columns_of_several_files_are_told_once_and_measures_never(tmp_path, recwarn):
    rows = {"train": "a,1,0.0,0.5,0.0\nb,1,1.0,1.0,2.5\n", "test": "c,1,1.0,0.0,1.0\n"}
    for split, content in rows.items():
        lines = f"text,red,blue,score,sum\n{content}"
        (tmp_path / f"{split}.csv").write_text(lines, encoding="utf-8")
    warnings.simplefilter("always")
    files.load(tmp_path)
    assert [str(w.message).count("'blue'") for w in recwarn] == [1]


def test_a_file_without_text_is_no_document(tmp_path):
    (tmp_path / "d.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no text"):
        list(files.read_texts(tmp_path / "d.txt"))
    assert files.check_text(tmp_path / "d.csv") == ()  # a table, which is not looked at
