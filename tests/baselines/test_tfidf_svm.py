"""The linear SVM: learns, is saved without pickle, and reaches its known result on Reuters."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.svm import LinearSVC

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


def _topics():
    """Forty texts of noise; two are about castor oil, which is said once in each, and some tea."""
    draw = np.random.default_rng(0)
    noise = [" ".join(f"word{n}" for n in draw.integers(0, 60, 30)) for _ in range(40)]
    texts = [text + (" tea" if n % 4 == 0 else "") for n, text in enumerate(noise)]
    texts[1:3] = [f"{text} castor" for text in texts[1:3]]
    truth = np.zeros((40, 2), dtype=bool)
    truth[::4, 0] = True
    truth[1:3, 1] = True
    return texts, truth


def test_a_rare_label_is_found_by_its_name():
    texts, truth = _topics()
    asked = [" ".join(text.split()[10:14]) + " castor" for text in texts[20:30]]
    held = [
        tfidf_svm.fit(
            texts, truth, BaselineSettings(name_weight=weight), 0, names=("tea", "Castor-Oil")
        ).scores(asked, "multi-label")[:, 1]
        for weight in (0, 4)
    ]
    assert (held[0] < 0.5).all()
    assert (held[1] > 0.5).all()


def test_a_name_is_one_more_feature_of_its_own_label():
    texts, truth = _topics()
    settings = BaselineSettings(ngrams=1, name_weight=3.0)
    machine = tfidf_svm.fit(texts, truth, settings, 0, names=("tea tea", "castor"))
    matrix = machine.vectorizer.transform(texts).toarray()
    for label, word in enumerate(("tea", "castor")):
        alike = matrix[:, [machine.vectorizer.vocabulary_[word]]]
        svm = LinearSVC(random_state=0).fit(np.hstack([matrix, 3 * alike]), truth[:, label])
        wanted = svm.decision_function(np.hstack([matrix, 3 * alike]))
        # Either solver stops at LinearSVC's tolerance of 1e-4.
        assert matrix @ machine.weights[:, label] + machine.offsets[label] == pytest.approx(
            wanted, abs=1e-4
        )


def test_names_that_no_document_has_change_nothing():
    texts, truth = _topics()
    fits = [
        tfidf_svm.fit(
            texts, truth, BaselineSettings(name_weight=w), 0, names=("P1-1", "42")
        ).weights
        for w in (0, 2)
    ]
    assert np.allclose(*fits, atol=1e-6)


def test_a_name_is_wanted_for_every_label():
    texts, truth = _topics()
    with pytest.raises(ValueError, match="needs 2 names, one a label, not 1"):
        tfidf_svm.fit(texts, truth, BaselineSettings(name_weight=1), 0, names=("tea",))


def test_a_run_takes_what_labels_are_called_in_words(tmp_path):
    corpus = made_corpus(documents=120)
    word = corpus.splits["train"][0].text.split()[0]
    called = replace(corpus, label_names={corpus.labels[0]: word})
    settings = build(Settings, {"baseline": {"name": "tfidf-svm", "name_weight": 4}})
    places = [
        run.execute(settings, tmp_path / str(number), corpus=each)
        for number, each in enumerate((corpus, called))
    ]
    made = [tfidf_svm.load(place / "model").weights for place in places]
    differ = ~np.isclose(*made, atol=1e-6).all(axis=0)
    assert differ[0]


@pytest.mark.parametrize("field", ["ngrams", "features", "c", "name_weight"])
def test_each_setting_changes_something(field):
    texts = [d.text for d in made_corpus(documents=40).splits["train"]]
    truth = made_corpus(documents=40).truth(made_corpus(documents=40).splits["train"])
    other = {"ngrams": 1, "features": 5, "c": 0.01, "name_weight": 2}
    names = [texts[0].split()[0]] * truth.shape[1]
    made = [
        tfidf_svm.fit(texts, truth, BaselineSettings(**changed), seed=0, names=names).weights
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
