"""Made-up documents: as long as asked for, the evidence where asked for, the same from a seed."""

import collections

import pytest

from longdoc.documents import catalog
from longdoc.documents.catalog import DataSettings
from longdoc.documents.synthetic import SyntheticSettings
from longdoc.errors import SettingsError

TELLING = ["the", "matter", "concerns"]


def made(task="topic", seed=0, **numbers):
    synthetic = SyntheticSettings(**{"documents": 60, "words": 200, **numbers})
    return catalog.prepare(
        DataSettings(dataset="synthetic", task=task, split_seed=seed, synthetic=synthetic)
    )


def documents(corpus):
    return [document for part in corpus.splits.values() for document in part]


def test_the_same_seed_makes_the_same_documents():
    assert made().digest() == made().digest()
    assert made().digest() != made(seed=1).digest()
    assert {split: len(part) for split, part in made().splits.items()} == {
        "train": 36,
        "validation": 12,
        "test": 12,
    }


@pytest.mark.parametrize("depth", [0.0, 0.25, 1.0])
def test_the_evidence_stands_where_it_was_asked_for(depth):
    for document in documents(made(depth=depth)):
        words = document.text.split()
        assert len(words) == 200
        assert words.index("the") == round(depth * (200 - 7))


def test_without_a_depth_it_stands_anywhere():
    places = [document.text.split().index("the") for document in documents(made(documents=200))]
    assert min(places) < 30
    assert max(places) > 160


def test_each_topic_has_its_words_and_no_word_gives_it_away():
    keys = collections.defaultdict(set)
    filler = set()
    for document in documents(made(documents=200)):
        words = document.text.split()
        place = words.index("concerns") + 1
        keys[document.labels[0]].add(tuple(words[place : place + 4]))
        filler |= {*words[: place - 3], *words[place + 4 :]}
    assert len(keys) == 8
    assert all(len(found) == 1 for found in keys.values())
    assert len({next(iter(found)) for found in keys.values()}) == 8
    assert len({frozenset(next(iter(found))) for found in keys.values()}) == 1
    assert {word for found in keys.values() for word in next(iter(found))} <= filler


def test_several_topics_have_a_sentence_each():
    for document in documents(made("topics")):
        assert document.text.count(" ".join(TELLING)) == len(document.labels)
        assert 1 <= len(document.labels) <= 3


def test_a_task_that_needs_the_sentence_is_learnt_by_who_can_read_it():
    """A linear model on pairs of words can; on single words it cannot."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.svm import LinearSVC

    corpus = made(documents=400, labels=4)
    train, test = corpus.splits["train"], corpus.splits["test"]
    scores = {}
    for name, pairs in (("words", (1, 1)), ("pairs", (2, 2))):
        vectorizer = CountVectorizer(ngram_range=pairs)
        machine = LinearSVC(C=0.1).fit(
            vectorizer.fit_transform(d.text for d in train), [d.labels[0] for d in train]
        )
        scores[name] = machine.score(
            vectorizer.transform(d.text for d in test), [d.labels[0] for d in test]
        )
    assert scores["pairs"] > 0.95
    assert scores["words"] < 0.45, "chance is a quarter"


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"words": 10}, r"data.synthetic.words must be at least 40; got 10"),
        ({"labels": 1}, r"data.synthetic.labels must be in 2..1000; got 1"),
        ({"documents": 3}, r"data.synthetic.documents must be at least 10"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers, message):
    with pytest.raises(SettingsError, match=message):
        SyntheticSettings(**numbers)


def test_a_depth_out_of_range_is_refused():
    with pytest.raises(SettingsError, match=r"data.synthetic.depth must be in 0..1; got 1.5"):
        made(depth=1.5)


def test_a_thousand_topics_have_longer_sentences():
    corpus = made(documents=30, labels=1000)
    words = documents(corpus)[0].text.split()
    assert len(words) == 200
    assert len(corpus.labels) <= 1000
