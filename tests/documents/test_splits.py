import dataclasses

import numpy as np
import pytest

from longdoc.documents import catalog, splits
from longdoc.documents.catalog import DataSettings
from longdoc.documents.document import Document, make_corpus
from longdoc.documents.statistics import lengths
from longdoc.errors import DataError, DataWarning, SettingsError
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


@pytest.mark.parametrize(("share", "size"), [(0.9, 8), (0.85, 8), (0.05, 1)])
def test_a_share_that_leaves_one_document_is_parted_as_well(share, size):
    documents = [Document(str(i), ("t",), (("a", "b")[i % 2],)) for i in range(9)]
    left, parted = splits.part_off(documents, share, seed=0)
    assert (len(left), len(parted)) == (9 - size, size)


def test_too_few_documents_to_part_give_one_sentence():
    with pytest.raises(DataError, match=r"cannot part 0\.1 off 1 documents; give more"):
        splits.part_off([Document("a", ("t",), ())], 0.1, 0)


def test_missing_splits_are_parted_off_training_and_noted(letters):
    whole = letters.splits["train"] + letters.splits["validation"] + letters.splits["test"]
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


@pytest.mark.parametrize(("limit", "most"), [("MOST_MARKS", 90 * 8), ("MOST_WORK", 90 * 80)])
def test_labels_too_many_to_hold_or_to_go_through_are_not_kept_in_proportion(
    monkeypatch, limit, most
):
    many = [Document(str(n), ("text",), (f"l{n % 9}",)) for n in range(90)]
    in_proportion = splits.part_off(many, 0.2, 0)
    monkeypatch.setattr(splits, limit, most)
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


def _documents(number):
    """Labels a, b, c in turn, every fourth document with two of them."""
    labels = [("a", "b", "c")[i % 3 : i % 3 + 1 + (i % 4 == 0)] for i in range(number)]
    return [Document(f"{i:03}", (f"text {i}",), labels[i]) for i in range(number)]


@pytest.mark.parametrize("number", [2, 3, 7])
def test_every_document_is_validation_in_exactly_one_fold(number):
    documents = _documents(90)
    corpus = make_corpus("x", "labels", "multi-label", {"train": documents})
    seen = []
    for fold in range(1, number + 1):
        part = splits.crossed(corpus, number, fold, seed=0)
        held = [d.id for d in part.splits["validation"]]
        assert not {d.id for d in part.splits["train"]} & set(held)
        assert len(part.splits["train"]) + len(held) == len(documents)
        assert abs(len(held) - len(documents) / number) <= 3
        assert part.digest() == splits.crossed(corpus, number, fold, seed=0).digest()
        seen += held
    assert sorted(seen) == sorted(d.id for d in documents)


def test_folds_hold_labels_in_proportion_and_keep_those_that_training_lacks():
    documents = _documents(90)
    rare = Document("alone", ("text",), ("once",))
    corpus = make_corpus("x", "labels", "multi-label", {"train": [*documents, rare]})
    parts = [splits.crossed(corpus, 3, fold, seed=0) for fold in (1, 2, 3)]
    for part in parts:
        assert part.labels == corpus.labels
        counts = part.truth(part.splits["validation"]).sum(axis=0)
        assert (np.abs(counts - corpus.training_counts() / 3) <= 1).all()
    assert sorted(part.training_counts()[-1] for part in parts) == [0, 1, 1]


def test_a_data_sets_own_validation_documents_are_in_the_folds_too():
    documents = _documents(90)
    given = {"train": documents[:60], "validation": documents[60:75], "test": documents[75:]}
    corpus = make_corpus("x", "labels", "multi-label", given)
    whole = splits.crossed(corpus, 4, None, seed=0)
    assert [d.id for d in whole.splits["train"]] == [d.id for d in documents[:75]]
    assert whole.splits["validation"] == whole.splits["train"]
    assert whole.splits["test"] == corpus.splits["test"]
    for fold in (1, 2, 3, 4):
        again = splits.crossed(whole, 4, fold, seed=0)
        assert again.digest() == splits.crossed(corpus, 4, fold, seed=0).digest()


def test_groups_stay_together_in_folds():
    documents = [
        Document(f"{group}-{number}", ("text",), ("a" if number % 2 else "b",), f"group {group}")
        for group in range(12)
        for number in range(5)
    ]
    parts = splits.folds(documents, 3, seed=1)
    groups = [{d.group for d in part} for part in parts]
    assert sum(map(len, groups)) == 12
    with pytest.raises(DataError, match=r"cannot split 12 documents, or groups .* = 13"):
        splits.folds(documents, 13, seed=1)
    corpus = make_corpus("x", "labels", "multi-label", {"train": documents})
    with pytest.raises(DataError, match=r"cannot split 12 documents, or groups .* = 13"):
        splits.crossed(corpus, 13, None, seed=1)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"folds": 1, "fold": 1}, r"data\.folds must be 2 to 20; got 1"),
        ({"folds": 21, "fold": 1}, r"data\.folds must be 2 to 20; got 21"),
        ({"folds": 4, "fold": 5}, r"data\.fold must be 1 to 4; got 5"),
        ({"folds": 4, "fold": 0}, r"data\.fold must be 1 to 4; got 0"),
        ({"fold": 2}, r"data\.fold must be left out without data\.folds; got 2"),
        ({"folds": 4, "fold": 1, "validation_documents": 9}, r"data\.validation_documents must be"),
    ],
)
def test_folds_that_cannot_be_get_one_sentence(given, sentence):
    with pytest.raises(SettingsError, match=sentence):
        DataSettings(**given)


def test_fewer_training_documents_are_drawn_from_all_that_folds_may_have():
    settings = DataSettings(dataset="examples/letters.jsonl", folds=3, train_documents=50)
    corpus = catalog.prepare(settings)
    assert len(corpus.splits["train"]) == len(corpus.splits["validation"]) == 50
    parts = [catalog.prepare(dataclasses.replace(settings, fold=fold)) for fold in (1, 2, 3)]
    held = [d.id for part in parts for d in part.splits["validation"]]
    assert sorted(held) == sorted(d.id for d in corpus.splits["train"])


@pytest.mark.parametrize("labels", [("wheat", "corn"), ("wheat",)])
def test_documents_of_one_group_are_parted_off_together(labels):
    documents = [
        Document(f"d{row}", ("text",), labels[row % 2 : row % 2 + 1], group=f"g{row // 3}")
        for row in range(90)
    ]
    whole = {"train": documents, "validation": (), "test": ()}
    corpus = make_corpus("made", "topics", "multi-label", whole)
    parts = splits.complete(corpus, 0.2, 0.5, 0).splits
    groups = [{document.group for document in part} for part in parts.values()]
    assert [len(part) for part in groups] == [12, 3, 15]
    assert sum(len(part) for part in parts.values()) == len(documents)
    assert not any(a & b for i, a in enumerate(groups) for b in groups[i + 1 :])


def test_a_group_is_no_document_of_that_name():
    documents = [Document("a", ("text",), ()), Document("b", ("text",), (), group="a")]
    assert [len(part) for part in splits.folds(documents, 2, 0)] == [1, 1]


def test_documents_that_are_all_of_one_group_cannot_be_parted():
    documents = [Document(str(row), ("text",), (), group="g") for row in range(3)]
    with pytest.raises(DataError, match="3 documents that are all of one group"):
        splits.part_off_groups(documents, 0.5, 0)


def test_a_share_of_groups_that_is_another_of_documents_is_told():
    rows = [Document(f"{g}-{i}", ("t",), ("x",), group=g) for g in "abcd" for i in range(3)]
    rows += [Document(f"e-{i}", ("t",), ("x",), group="e") for i in range(100)]
    parted = set()
    for seed in range(20):
        corpus = make_corpus("mine", "own", "multi-label", {"train": rows}, labels=("x",))
        large = splits.part_off_groups(rows, 0.2, seed)[1][0].group == "e"
        if large not in parted:
            parted.add(large)
            with pytest.warns(DataWarning, match=r"test has 0.2 of the groups and 0.(89|027) "):
                whole = splits.complete(corpus, None, 0.2, seed)
            found = whole.notes["test_parted_off_training"]["share_of_documents"]
            assert found == round((100 if large else 3) / 112, 4)
    assert parted == {True, False}


@pytest.mark.parametrize("groups", ["abcde", "abcd", "abc"])
def test_groups_of_alike_sizes_are_not_told_of(groups, recwarn):
    rows = [Document(f"{g}-{i}", ("t",), ("x",), group=g) for g in groups for i in range(3)]
    corpus = make_corpus("m", "own", "multi-label", {"train": rows}, labels="x")
    splits.complete(corpus, 0.1, 0.2, 0)  # of fewer groups than a share is of, one is taken
    assert not [w for w in recwarn if w.category is DataWarning]
