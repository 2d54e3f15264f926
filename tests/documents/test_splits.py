import dataclasses

import numpy as np
import pytest

from longdoc.documents import splits
from longdoc.documents.document import Document
from longdoc.documents.statistics import lengths
from longdoc.errors import DataError
from tests.conftest import made_corpus


def test_splits_keep_labels_in_proportion_and_repeat():
    documents = [
        Document(str(i), ("t",), ("rare",) if i % 20 == 0 else ("often",)) for i in range(200)
    ]
    train, test = splits.part_off(documents, 0.2, seed=1)
    assert len(test) == 40
    assert sum("rare" in d.labels for d in test) == 2
    assert splits.part_off(documents, 0.2, seed=1) == (train, test)
    assert splits.part_off(documents, 0.2, seed=2) != (train, test)


def test_every_document_is_in_exactly_one_part():
    documents = list(made_corpus().splits["train"])
    first, second = splits.part_off(documents, 0.25, seed=0)
    assert sorted(d.id for d in first + second) == sorted(d.id for d in documents)


def test_too_few_documents_to_part_give_one_sentence():
    with pytest.raises(DataError, match=r"cannot part 0\.1 off 1 documents; give more"):
        splits.part_off([Document("a", ("t",), ())], 0.1, 0)


def test_missing_splits_are_parted_off_training_and_noted(letters):
    whole = letters.splits["train"] + letters.splits["validation"] + letters.splits["test"]
    from longdoc.documents.document import make_corpus

    corpus = splits.complete(make_corpus("x", "own", "multi-label", {"train": whole}), 0.1, 0.2, 0)
    sizes = {split: len(part) for split, part in corpus.splits.items()}
    assert sizes == {"train": 72, "validation": 8, "test": 20}
    assert set(corpus.notes) == {"test_parted_off_training", "validation_parted_off_training"}


@pytest.mark.parametrize("wanted", [1, 10, 29])
def test_parts_have_the_size_that_was_asked_for_however_rare_the_labels(wanted):
    documents = [Document(str(i), ("t",), (f"only-{i}",)) for i in range(30)]
    first, second = splits.part_off(documents, wanted / 30, seed=0)
    assert (len(first), len(second)) == (30 - wanted, wanted)


def test_rare_labels_go_and_their_documents_stay():
    documents = [
        Document(str(i), ("t",), ("often", "rare") if i == 0 else ("often",)) for i in range(9)
    ]
    from longdoc.documents.document import make_corpus

    corpus = splits.without_rare(make_corpus("x", "t", "multi-label", {"train": documents}), 5)
    assert corpus.labels == ("often",)
    assert len(corpus.splits["train"]) == 9
    assert corpus.notes["labels_left_out_after_drawing"] == 1


def test_splits_that_are_there_stay(letters):
    assert splits.complete(letters, 0.1, 0.2, 0).splits == letters.splits


def test_groups_stay_together_and_large_ones_train():
    documents = [
        Document(f"{g}-{i}", ("t",), (f"l{g % 3}",), group=f"g{g}")
        for g in range(30)
        for i in range(3)
    ] + [Document(f"big-{i}", ("t",), ("l0",), group="big") for i in range(25)]
    shares = {"train": 0.7, "validation": 0.1, "test": 0.2}
    parts = splits.split_groups(documents, shares, 0, large=20)
    places = {d.group: name for name, part in parts.items() for d in part}
    assert all(places[d.group] == name for name, part in parts.items() for d in part)
    assert places["big"] == "train"
    assert 0.1 < len(parts["test"]) / len(documents) < 0.3


def test_lengths_count_documents_and_tokens_that_fit():
    found = lengths([100, 600, 5000])
    assert found.fitting[512] == (1 / 3, (100 + 512 + 512) / 5700)
    assert found.quantiles[0.5] == 600
    assert lengths(np.array([3])).quantiles[1.0] == 3


def test_documents_without_labels_are_parted_by_chance_and_repeatedly():
    bare = [Document(str(n), ("text",), ()) for n in range(50)]
    first, second = (splits.part_off(bare, 0.2, 3) for _ in range(2))
    assert first == second
    assert [len(part) for part in first] == [40, 10]
    assert splits.part_off(bare, 0.2, 4) != first


def test_a_matrix_of_labels_too_large_to_hold_is_not_made(monkeypatch):
    many = [Document(str(n), ("text",), (f"l{n % 9}",)) for n in range(90)]
    in_proportion = splits.part_off(many, 0.2, 0)
    monkeypatch.setattr(splits, "MOST_MARKS", 90 * 8)
    monkeypatch.setattr(splits, "_marks", None)  # would raise if it were called
    by_chance = splits.part_off(many, 0.2, 0)
    assert [len(part) for part in by_chance] == [72, 18]
    assert by_chance != in_proportion


def test_no_label_frequent_enough_gives_one_sentence():
    corpus = made_corpus()
    with pytest.raises(DataError, match="no label has 1000 training documents"):
        splits.without_rare(corpus, 1000)


def test_names_of_labels_stay_when_documents_are_drawn():
    corpus = dataclasses.replace(made_corpus(), label_names={"river": "the river"})
    untested = dataclasses.replace(corpus, splits={**corpus.splits, "test": ()})
    for changed in (
        splits.subset(corpus, {"train": 10}, 0),
        splits.without_rare(corpus, 2),
        splits.complete(untested, 0.1, 0.2, 0),
    ):  # fmt: skip
        assert changed.label_names == {"river": "the river"}
