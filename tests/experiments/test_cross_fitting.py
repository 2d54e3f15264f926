"""Cross-fitting: every training document is validated by what was trained without it."""

import dataclasses
import shutil

import numpy as np
import pytest

import longdoc
from longdoc.documents import catalog, splits
from longdoc.errors import RunError
from longdoc.experiments import compare, cross_fitting, ensemble, model, plan, run, store
from longdoc.experiments.settings import Settings
from longdoc.metrics import thresholds
from longdoc.report.markdown import render
from longdoc.report.sections.answer import learnt_from
from longdoc.settings import build
from tests.conftest import made_corpus
from tests.experiments.test_imbalance import LETTERS

FOLDS = {**LETTERS, "data": {**LETTERS["data"], "folds": 3}}
SVM = {"baseline": {"name": "tfidf-svm"}}
HEAD = {"backbone": {"name": "gpt-neo-mini"}, "adapter": {"preset": "head-only"}}


def made(root, **changes):
    return store.load(run.execute(build(Settings, {**FOLDS, **changes}), root))


@pytest.fixture(scope="module")
def svm(tmp_path_factory):
    return made(tmp_path_factory.mktemp("svm"), **SVM)


def parts_of(found):
    folders = sorted((found.folder / "folds").iterdir())
    assert len(folders) == 3
    return [store.load(folder) for folder in folders]


def test_every_training_document_is_scored_by_what_did_not_see_it(svm):
    corpus = catalog.prepare(svm.settings.data)
    whole = svm.predictions()["validation"]
    assert whole.ids == tuple(d.id for d in corpus.splits["train"])
    assert np.array_equal(whole.truth, corpus.truth(corpus.splits["train"]))
    rows = {name: row for row, name in enumerate(whole.ids)}
    for part in parts_of(svm):
        held = part.predictions()["validation"]
        trained = catalog.prepare(part.settings.data).splits["train"]
        assert not {d.id for d in trained} & set(held.ids)
        assert np.array_equal(held.scores, whole.scores[[rows[name] for name in held.ids]])
    assert svm.data["documents"]["train"] == svm.data["documents"]["validation"] == 80


def test_thresholds_are_chosen_on_all_training_documents(svm):
    whole = svm.predictions()["validation"]
    wanted = thresholds.choose(whole.truth, whole.scores, "multi-label", 10.0)
    for mode, cuts in wanted.items():
        assert svm.metrics["thresholds"][mode] == pytest.approx(cuts.tolist())


def test_the_folds_systems_answer_together(svm):
    test = svm.predictions()["test"]
    each = [part.predictions()["test"].scores for part in parts_of(svm)]
    assert np.array_equal(test.scores, ensemble.combine(each, [1 / 3] * 3, "multi-label"))
    documents = {d.id: d for d in longdoc.load_dataset("examples/letters.jsonl").splits["test"]}
    given = longdoc.predict(svm, [documents[name] for name in test.ids])
    for row, prediction in zip(test.scores, given, strict=True):
        assert np.allclose([prediction.scores[n] for n in test.labels], row, atol=1e-5)


def test_a_run_of_folds_moves_as_one_folder(svm, tmp_path):
    wanted = [p.scores for p in longdoc.predict(svm, ["The lift is broken"])]
    moved = shutil.copytree(svm.folder, tmp_path / "elsewhere" / "renamed")
    assert {m.folder.parent for m in ensemble.load(moved)} == {moved / "folds"}
    assert [p.scores for p in longdoc.predict(moved, ["The lift is broken"])] == wanted


def test_what_it_costs_is_the_sum_of_its_folds(svm):
    parts = parts_of(svm)
    for name in ("train_seconds", "parameters"):
        assert svm.timings[name] == pytest.approx(sum(part.timings[name] for part in parts))
    assert svm.timings["peak_bytes"] == max(part.timings["peak_bytes"] for part in parts)


def test_an_interrupted_run_goes_on_with_the_fold_it_was_at(svm, tmp_path, monkeypatch):
    real, asked = run.tfidf_svm.fit, []

    def fit(*arguments):
        asked.append(arguments)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(run.tfidf_svm, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, **SVM)
    again = made(tmp_path, **SVM)
    assert len(asked) == 4  # one finished, one broken off, and two after that
    for split in ("validation", "test"):
        found, wanted = again.predictions()[split].scores, svm.predictions()[split].scores
        assert np.array_equal(found, wanted)
    assert [place.name for place in tmp_path.iterdir()] == [again.folder.name]


def test_a_frozen_backbone_reads_each_document_once_for_all_folds(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    found = made(tmp_path / "runs", **HEAD)
    assert len(list((tmp_path / "cache" / "vectors").iterdir())) == 1
    epochs = [(record["fold"], record["epoch"]) for record in found.history() if "loss" in record]
    assert {fold for fold, _ in epochs} == {1, 2, 3}
    assert found.timings["train_tokens_per_second"] > 0
    assert found.environment["notes"]["folds"] == 3
    with pytest.raises(RunError, match="or a system of several folds, without a backbone"):
        model.load_model(found)
    page = longdoc.write_report([found.folder], tmp_path / "report.html").read_text()
    assert all(f"{found.folder.name}, fold {fold} ends at" in page for fold in (1, 2, 3))


@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label"])
def test_every_kind_of_task_can_be_cross_fitted(kind, tmp_path):
    settings = build(Settings, {**FOLDS, **SVM})
    corpus = splits.crossed(made_corpus(kind), 3, None, 0)
    found = store.load(run.execute(settings, tmp_path, corpus=corpus))
    assert set(found.predictions()["validation"].ids) == {str(n) for n in range(36)}
    assert found.metrics["splits"]["test"]["per-label"]["micro-f1"] > 0.5


def test_cross_fitted_systems_are_weighed_on_every_training_document(svm, tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    head = made(tmp_path, **HEAD)
    members = {"members": [str(svm.folder), str(head.folder)]}
    found = made(tmp_path, ensemble=members)
    assert len(found.predictions()["validation"].ids) == 80
    assert sum(found.environment["notes"]["ensemble"].values()) == pytest.approx(1)
    wanted = found.predictions()["test"]
    text = longdoc.load_dataset("examples/letters.jsonl").splits["test"][0]
    (given,) = longdoc.predict(found, [text])
    row = wanted.scores[wanted.ids.index(text.id)]
    assert np.allclose([given.scores[name] for name in wanted.labels], row, atol=1e-4)


def test_one_fold_alone_is_an_ordinary_run(svm, tmp_path):
    one = made(tmp_path, **SVM, data={**FOLDS["data"], "fold": 2})
    again = parts_of(svm)[1]
    assert np.array_equal(one.predictions()["test"].scores, again.predictions()["test"].scores)
    assert not (one.folder / cross_fitting.FOLDER).exists()


def test_a_plan_may_ask_what_folds_bring(tmp_path):
    systems = [{"name": "plain"}, {"name": "folds", "data": {"folds": 3}}]
    content = {
        "name": "folds", "seeds": [1], "baselines": False, "resamples": 100,
        "settings": {**LETTERS, **SVM}, "systems": systems,
    }  # fmt: skip
    found = compare.execute(plan.make(content), tmp_path)
    words = learnt_from(found)
    assert "plain from 60 documents and 20 for validation" in words
    assert "folds from 80 documents in 3 folds" in words
    assert words in render(found)
    page = longdoc.write_report(found, tmp_path / "report.html").read_text()
    assert "Systems did not learn from the same documents" in page
    again = compare.from_runs([system.runs[0] for system in found.systems])
    assert learnt_from(again) == words


def test_seeds_of_one_system_must_have_learnt_from_the_same(svm, tmp_path):
    other = made(tmp_path, **SVM, training={**LETTERS["training"], "seed": 1})
    assert len(compare.from_runs([svm, other]).systems) == 1
    changed = dataclasses.replace(other, data={**other.data, "digest": "0" * 64})
    with pytest.raises(RunError, match="were made on different documents"):
        compare.from_runs([svm, changed])


def test_folds_keep_which_documents_belong_together(tmp_path):
    plain = made_corpus(documents=96)
    grouped = {
        split: [dataclasses.replace(d, group=f"{split} {n // 4}") for n, d in enumerate(documents)]
        for split, documents in plain.splits.items()
    }
    corpus = splits.crossed(dataclasses.replace(plain, splits=grouped), 3, None, 0)
    given = build(Settings, {**SVM, "data": {"folds": 3}})
    folder = run.execute(given, tmp_path, corpus=corpus)
    found = store.load(folder).predictions()
    for split in ("validation", "test"):
        wanted = [d.group for d in corpus.splits[split]]
        numbers = found[split].groups
        assert found[split].ids == tuple(d.id for d in corpus.splits[split])
        assert len(set(zip(wanted, numbers.tolist(), strict=True))) == len(set(wanted))
        assert len(set(numbers.tolist())) == len(set(wanted))
