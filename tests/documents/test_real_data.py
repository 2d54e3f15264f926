"""The real data sets: published counts, and one sentence for a wrong copy."""

import json
import tarfile

import numpy as np
import pytest

from longdoc.documents import catalog, echr_acl2019, reuters_21578, statistics
from longdoc.documents.catalog import DataSettings
from longdoc.errors import DataError, SettingsError


@pytest.mark.golden
@pytest.mark.parametrize(
    ("task", "train", "test", "labels"),
    [("r90", 7770, 3019, 90), ("r10", 6490, 2545, 10), ("modapte", 9603, 3299, 115)],
)
def test_reuters_has_its_published_counts(real_data, task, train, test, labels):
    corpus = catalog.load(DataSettings(dataset="reuters-21578", task=task))
    assert (len(corpus.splits["train"]), len(corpus.splits["test"])) == (train, test)
    assert len(corpus.labels) == labels
    assert corpus.notes["checksum_known"] is True


@pytest.mark.golden
def test_reuters_modapte_keeps_test_documents_without_a_topic(real_data):
    corpus = catalog.load(DataSettings(dataset="reuters-21578", task="modapte"))
    without = {split: sum(not d.labels for d in part) for split, part in corpus.splits.items()}
    assert (without["train"], without["test"]) == (1828, 280)


@pytest.mark.golden
def test_echr_has_its_published_counts(real_data):
    corpus = catalog.load(DataSettings(dataset="echr-acl2019", task="violated-articles"))
    found = statistics.label_distribution(corpus)["splits"]
    assert [found[s]["documents"] for s in ("train", "validation", "test")] == [7100, 1380, 2998]
    assert [len(found[s]["labels"]) for s in ("train", "validation", "test")] == [21, 17, 21]
    first = list(found["train"]["labels"].items())[:5]
    assert first == [("6", 1968), ("5", 599), ("3", 527), ("13", 519), ("8", 443)]
    assert corpus.notes["checksum_known"] is True


@pytest.mark.golden
def test_echr_violation_is_binary_with_both_counts(real_data):
    corpus = catalog.load(DataSettings(dataset="echr-acl2019", task="violation"))
    found = statistics.label_distribution(corpus)["splits"]
    assert found["train"]["labels"] == {"violation": 3551, "no violation": 3549}
    assert found["test"]["labels"] == {"violation": 1974, "no violation": 1024}
    assert corpus.labels == ("no violation", "violation")


@pytest.mark.golden
def test_echr_importance_has_four_ranks(real_data):
    corpus = catalog.load(DataSettings(dataset="echr-acl2019", task="importance"))
    found = statistics.label_distribution(corpus)["splits"]
    assert found["train"]["labels"] == {"4": 3657, "3": 1891, "1": 826, "2": 726}
    assert found["test"]["labels"] == {"4": 2174, "3": 662, "1": 120, "2": 42}
    assert corpus.labels == ("1", "2", "3", "4")


@pytest.mark.golden
def test_echr_alleged_is_violated_or_not(real_data):
    corpus = catalog.load(DataSettings(dataset="echr-acl2019", task="alleged-articles"))
    any_label = {split: sum(bool(d.labels) for d in part) for split, part in corpus.splits.items()}
    assert any_label == {"train": 4174, "validation": 797, "test": 2357}


def test_an_incomplete_copy_is_refused(real_data, tmp_path):
    with tarfile.open(real_data / "reuters21578.tar.xz") as archive:
        names = [m for m in archive.getmembers() if m.name.endswith((".sgm",))][:3]
        archive.extractall(tmp_path, names, filter="data")
    with pytest.raises(DataError, match="found 3 of 22"):
        reuters_21578.load("r90", str(tmp_path))


def judgment(**changes):
    record = {"ITEMID": "1", "TEXT": ["a"], "VIOLATED_ARTICLES": ["6"], "NON_VIOLATED_ARTICLES": []}
    return json.dumps({**record, **changes})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "1.json: not a JSON file"),
        ("[]", "1.json: expected one JSON object"),
        (judgment(TEXT="a"), "1.json: field TEXT must be a list of strings"),
        (judgment(VIOLATED_ARTICLES=[6]), "field VIOLATED_ARTICLES must be a list of strings"),
    ],
)
def test_a_wrong_judgment_is_named_with_its_field(tmp_path, content, message):
    (tmp_path / "EN_train").mkdir()
    (tmp_path / "EN_train" / "1.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        echr_acl2019.load("violated-articles", str(tmp_path))


def test_a_copy_with_too_few_judgments_is_refused(tmp_path):
    (tmp_path / "EN_train").mkdir()
    for number in range(3):
        (tmp_path / "EN_train" / f"{number}.json").write_text(judgment(ITEMID=str(number)))
    settings = DataSettings(dataset="echr-acl2019", task="violated-articles", path=str(tmp_path))
    with pytest.raises(DataError, match=r"not a whole copy of echr-acl2019: expected .*7100"):
        catalog.load(settings)


def test_an_unknown_task_names_the_nearest(real_data):
    with pytest.raises(SettingsError, match="has no task 'r9'; did you mean r90"):
        catalog.load(DataSettings(dataset="reuters-21578", task="r9"))


def test_an_unknown_data_set_names_the_nearest():
    with pytest.raises(DataError, match="did you mean reuters-21578"):
        catalog.load(DataSettings(dataset="reuters21578"))


def test_a_subset_is_drawn_reproducibly_and_noted(real_data):
    settings = DataSettings(dataset="echr-acl2019", train_documents=200, test_documents=100)
    first, second = catalog.prepare(settings), catalog.prepare(settings)
    assert first.digest() == second.digest()
    assert len(first.splits["train"]) == 200
    assert first.notes["subset"] == {"documents": {"train": 200, "test": 100}, "seed": 0}
    assert abs(first.training_counts()[0] - 100) <= 1


@pytest.mark.golden
@pytest.mark.slow
def test_eurlex_has_its_published_groups_of_concepts(real_data):
    corpus = catalog.load(DataSettings(dataset="eurlex57k"))
    counts = corpus.training_counts()
    groups = [(counts >= 50).sum(), ((counts > 0) & (counts < 50)).sum(), (counts == 0).sum()]
    assert groups == [746, 3362, 163]
    assert corpus.label_names["1309"] == "import"
    words = [len(" ".join(d.paragraphs[1:]).split()) for d in corpus.splits["train"]]
    assert np.percentile(words, [10, 50, 90, 99]).round().tolist() == [304, 513, 1530, 2652]
    assert corpus.notes["checksum_known"] is True
    assert catalog.prepare(DataSettings(dataset="eurlex57k")).labels == corpus.labels
    top = catalog.load(DataSettings(dataset="eurlex57k", task="top-100"))
    assert top.labels == corpus.labels[:100]
