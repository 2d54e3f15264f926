"""ECtHR cases: the hub's Parquet and the makers' JSON Lines, made here in their published schema.

The real files could not be had; what is known of them, the counts, is checked on load.
"""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longdoc.documents import catalog, ecthr
from longdoc.documents.catalog import DataSettings
from longdoc.errors import DataError, SettingsError

CASES = [
    {"facts": ["A was arrested.", "A was beaten.", "A complained."], "labels": ["3", "5"],
     "silver_rationales": [1, 2], "gold_rationales": [1]},
    {"facts": ["B owned a house.", "It was taken."], "labels": ["P1-1"],
     "silver_rationales": [], "gold_rationales": []},
    {"facts": ["C waited for nine years."], "labels": [], "silver_rationales": [0], "gold_rationales": []},
]  # fmt: skip
SPLITS = {"train": CASES, "validation": CASES[:1], "test": CASES[1:]}


def parquet(
    folder, configuration="alleged-violation-prediction", cases=SPLITS, name="{}/0000.parquet"
):
    for split, rows in cases.items():
        file = folder / configuration / name.format(split)
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), file)
    return folder


def jsonl(folder):
    folder.mkdir(exist_ok=True)
    for split, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        rows = []
        for number, case in enumerate(SPLITS[split]):
            kept = {name: value for name, value in case.items() if name != "labels"}
            rows.append({"case_id": f"001-{split}-{number}", "case_no": "1/02", **kept,
                         "allegedly_violated_articles": case["labels"], "violated_articles": case["labels"][:1]})  # fmt: skip
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.parametrize(
    "name", ["{}/0000.parquet", "ecthr_cases-{}.parquet", "{}-00000-of-00001.parquet"]
)
def test_the_hubs_files_are_read_by_task(tmp_path, name):
    parquet(tmp_path, name=name)
    other = {
        split: [{**row, "labels": row["labels"][:1]} for row in rows]
        for split, rows in SPLITS.items()
    }
    parquet(tmp_path, "violation-prediction", other, name)
    alleged = ecthr.load("allegations", str(tmp_path))
    assert {split: len(part) for split, part in alleged.splits.items()} == {
        "train": 3,
        "validation": 1,
        "test": 2,
    }
    assert alleged.splits["train"][0].labels == ("3", "5")
    assert alleged.splits["train"][0].paragraphs == tuple(CASES[0]["facts"])
    assert ecthr.load("violations", str(tmp_path)).splits["train"][0].labels == ("3",)


def test_the_makers_files_are_read_with_their_case_numbers(tmp_path):
    folder = str(jsonl(tmp_path / "cases"))
    found = ecthr.load("violations", folder)
    assert [d.id for d in found.splits["train"]] == ["001-train-0", "001-train-1", "001-train-2"]
    assert [d.labels for d in found.splits["train"]] == [("3",), ("P1-1",), ()]
    assert ecthr.load("allegations", folder).splits["train"][0].labels == ("3", "5")


def test_rationales_are_kept_and_silver_cuts_to_them(tmp_path):
    parquet(tmp_path)
    first, second, _ = ecthr.load("allegations", str(tmp_path)).splits["train"]
    assert first.evidence == {"silver": (1, 2), "gold": (1,)}
    assert second.evidence == {"silver": (), "gold": ()}
    cut = ecthr.load("allegations", str(tmp_path), silver=True).splits["train"]
    assert cut[0].paragraphs == ("A was beaten.", "A complained.")
    assert cut[0].evidence == {}
    assert cut[1].paragraphs == tuple(CASES[1]["facts"]), "without rationales the facts stay"


def test_binary_tasks_have_the_positive_label_second(tmp_path):
    parquet(tmp_path)
    found = ecthr.load("allegation-binary", str(tmp_path))
    assert found.labels == ("no allegation", "allegation")
    assert [d.labels[0] for d in found.splits["train"]] == [
        "allegation",
        "allegation",
        "no allegation",
    ]


def many(counts, documents):
    """Make cases with so many of each label."""
    rows = [
        {"facts": ["x"], "labels": [], "silver_rationales": [], "gold_rationales": []}
        for _ in range(documents)
    ]
    for label, count in counts.items():
        for row in rows[:count]:
            row["labels"].append(label)
    return rows


def test_a_whole_copy_has_the_known_labels_or_is_refused(tmp_path):
    counts = {ecthr.ARTICLES[number]: count for number, count in ecthr.ALLEGED.items()}
    few = many({"3": 2}, 1000)
    parquet(tmp_path / "whole", cases={"train": many(counts, 9000), "validation": few, "test": few})
    found = catalog.load(DataSettings(dataset="ecthr-cases", path=str(tmp_path / "whole")))
    assert found.labels[0] == "6"
    assert found.training_counts()[0] == 5437
    counts["P12-1"] += 1
    parquet(tmp_path / "other", cases={"train": many(counts, 9000), "validation": few, "test": few})
    message = r"not the published copy of ecthr-cases: 6 training cases with 'P12-1', known are 5"
    with pytest.raises(DataError, match=message):
        catalog.load(DataSettings(dataset="ecthr-cases", path=str(tmp_path / "other")))


def test_a_part_of_a_copy_is_refused(tmp_path):
    parquet(tmp_path)
    with pytest.raises(DataError, match="not a whole copy of ecthr-cases: expected"):
        catalog.load(DataSettings(dataset="ecthr-cases", path=str(tmp_path)))


@pytest.mark.parametrize("letter", ["a", "b"])
def test_lexglue_has_ten_articles_by_number(tmp_path, letter):
    rows = {split: [{"text": ["One.", "Two."], "labels": [0, 9]}, {"text": ["Three."], "labels": []}]
            for split in SPLITS}  # fmt: skip
    parquet(tmp_path, "", rows, "{}-00000-of-00001.parquet")
    card = {"a": ecthr.LEXGLUE_A, "b": ecthr.LEXGLUE_B}[letter]
    found = ecthr.load_lexglue(card, "articles", str(tmp_path))
    assert found.labels == ecthr.LEXGLUE
    assert [d.labels for d in found.splits["test"]] == [("2", "P1-1"), ()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"facts": "one text"}, r"line 1: field facts must be a list of texts; got 'one text'"),
        ({"labels": ["99"]}, r"line 1: '99' is no article of the Convention"),
        ({"labels": None}, r"field labels must be a list of texts; got 'None'"),
        (
            {"silver_rationales": [7]},
            r"field silver_rationales must be a list of numbers in 0..2; got",
        ),
        ({"gold_rationales": [True]}, r"field gold_rationales must be a list of numbers"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, change, message):
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({**CASES[0], **change}))
    with pytest.raises(DataError, match=message):
        ecthr.load("allegations", str(tmp_path))


def test_a_missing_folder_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_DATA", str(tmp_path))
    with pytest.raises(
        DataError, match=r"ecthr-cases is not on this machine: there is no folder .*ecthr_cases"
    ):
        catalog.load(DataSettings(dataset="ecthr-cases"))
    (tmp_path / "ecthr_cases").mkdir()
    with pytest.raises(
        DataError, match=r"no cases of alleged-violation-prediction in \.parquet or"
    ):
        catalog.load(DataSettings(dataset="ecthr-cases"))
    (tmp_path / "ecthr_cases" / "cases.jsonl").write_text(json.dumps(CASES[0]))
    with pytest.raises(
        DataError, match="no split in the file's name, and none in a field data_type"
    ):
        catalog.load(DataSettings(dataset="ecthr-cases"))


def test_labels_below_a_frequency_can_be_left_out_of_any_data_set(tmp_path):
    rows = [{"text": f"letter {n}", "labels": ["a"] + ["b"] * (n < 2)} for n in range(20)]
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    every = catalog.prepare(DataSettings(dataset=str(file)))
    assert set(every.labels) == {"a", "b"}
    found = catalog.prepare(DataSettings(dataset=str(file), min_train_documents=4))
    assert found.labels == ("a",)
    assert sum(map(len, found.splits.values())) == 20
    rows = [{"text": f"letter {n}", "label": "ab"[n % 2]} for n in range(20)]
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        SettingsError, match=r"data.min_train_documents must be left out for .*, a binary task"
    ):
        catalog.prepare(DataSettings(dataset=str(file), min_train_documents=4))


@pytest.mark.parametrize(
    ("name", "task", "folder"),
    [
        ("ecthr-cases", "violations", "ecthr_cases/alleged-violation-prediction"),
        ("ecthr-cases", "allegations", "ecthr_cases/violation-prediction"),
        ("lexglue-ecthr-a", "articles", "lex_glue/ecthr_b"),
    ],
)
def test_a_folder_of_another_tasks_labels_is_refused(tmp_path, name, task, folder):
    place = tmp_path / folder
    parquet(place.parent, place.name)
    with pytest.raises(DataError, match=f"holds {place.name}; for this task give the folder"):
        catalog.load(DataSettings(dataset=name, task=task, path=str(place)))


def test_the_name_of_a_folder_further_up_says_nothing(tmp_path):
    place = tmp_path / "violation-prediction" / "data" / "cases"
    place.parent.mkdir(parents=True)
    jsonl(place)
    assert len(ecthr.load("allegations", str(place)).splits["train"]) == 3


def test_a_folder_of_its_own_task_is_read(tmp_path):
    parquet(tmp_path / "violation-prediction-of-2021", "violation-prediction")
    place = tmp_path / "violation-prediction-of-2021" / "violation-prediction"
    assert len(ecthr.load("violations", str(place)).splits["train"]) == 3


@pytest.mark.parametrize(
    ("card", "first"), [(ecthr.LEXGLUE_A, ("3",)), (ecthr.LEXGLUE_B, ("3", "5"))]
)
def test_the_benchmarks_own_json_lines_are_read(tmp_path, card, first):
    rows = [
        {"data_type": split, "facts": case["facts"], "violated_articles": case["labels"][:1],
         "allegedly_violated_articles": [*case["labels"], "P7-1"]}
        for split in ("train", "dev", "test") for case in CASES
    ]  # fmt: skip
    (tmp_path / "ecthr.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = ecthr.load_lexglue(card, "articles", str(tmp_path))
    assert [len(part) for part in corpus.splits.values()] == [3, 3, 3]
    assert corpus.splits["train"][0].labels == first
    assert corpus.splits["train"][0].paragraphs == tuple(CASES[0]["facts"])
