"""The linear SVM: learns, is saved without pickle, and reaches its known result on Reuters."""

import json

import numpy as np
import pytest

from longdoc.baselines import majority, tfidf_svm
from longdoc.baselines.settings import BaselineSettings
from longdoc.documents import catalog
from longdoc.errors import DataError
from longdoc.experiments import run, store
from longdoc.experiments.settings import Settings
from longdoc.settings import build
from tests.conftest import ROOT, made_corpus


@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label"])
def test_it_learns_and_comes_back_from_its_files(tmp_path, kind):
    corpus = made_corpus(kind, documents=160)
    texts = [d.text for d in corpus.splits["train"]]
    truth = corpus.truth(corpus.splits["train"])
    machine = tfidf_svm.fit(texts, truth, BaselineSettings(), seed=0)
    scores = machine.scores([d.text for d in corpus.splits["test"]], kind)
    found = scores.argmax(1) if kind != "multi-label" else scores >= 0.5
    wanted = corpus.truth(corpus.splits["test"])
    wanted = wanted.argmax(1) if kind != "multi-label" else wanted
    assert (found == wanted).mean() > 0.8
    if kind != "multi-label":
        assert np.allclose(scores.sum(1), 1.0, atol=1e-6)
    machine.save(tmp_path)
    again = tfidf_svm.load(tmp_path)
    assert np.allclose(again.scores(texts, kind), machine.scores(texts, kind), atol=1e-6)
    assert {f.name for f in tmp_path.iterdir()} == {"features.json", "svm.safetensors"}


def test_a_label_nobody_or_everybody_has_needs_no_machine():
    truth = np.array([[True, False, True], [True, False, False]] * 3)
    machine = tfidf_svm.fit(["one two", "three four"] * 3, truth, BaselineSettings(), seed=0)
    scores = machine.scores(["one", "three"], "multi-label")
    assert (scores[:, 0] > 0.5).all()
    assert (scores[:, 1] < 0.5).all()


def test_texts_without_words_are_refused():
    with pytest.raises(DataError, match="no words that TF-IDF can count"):
        tfidf_svm.fit(["! !", "? ?"], np.eye(2, dtype=bool), BaselineSettings(), seed=0)


@pytest.mark.parametrize("field", ["ngrams", "features", "c"])
def test_each_setting_changes_something(field):
    texts = [d.text for d in made_corpus(documents=40).splits["train"]]
    truth = made_corpus(documents=40).truth(made_corpus(documents=40).splits["train"])
    other = {"ngrams": 1, "features": 5, "c": 0.01}
    made = [
        tfidf_svm.fit(texts, truth, BaselineSettings(**changed), seed=0).weights
        for changed in ({}, {field: other[field]})
    ]
    assert made[0].shape != made[1].shape or not np.allclose(*made)


def test_majority_gives_the_most_frequent_label():
    assert majority.scores(np.array([1, 7, 3]), 2).tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.golden
@pytest.mark.slow
def test_reuters_r90_reaches_its_known_result(real_data, tmp_path):
    golden = json.loads((ROOT / "tests" / "golden" / "reuters_svm.json").read_text())
    settings = build(Settings, golden["settings"])
    corpus = catalog.prepare(settings.data)
    found = store.load(run.execute(settings, tmp_path, corpus=corpus)).metrics["splits"]["test"]
    assert found["per-label"]["micro-f1"] >= 0.86
    for mode, values in golden["test"].items():
        for metric, value in values.items():
            assert found[mode][metric] == pytest.approx(value, abs=golden["tolerance"]), (
                mode,
                metric,
            )
