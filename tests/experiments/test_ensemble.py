"""Ensembles: averaged logits, weights from validation, and the same scores for new documents."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import longdoc
from longdoc.errors import RunError, SettingsError
from longdoc.experiments import ensemble, ensemble_run, run, store
from longdoc.experiments.settings import Settings
from longdoc.metrics import classification, thresholds
from longdoc.predictions import decide
from longdoc.settings import build
from tests.conftest import made_corpus
from tests.experiments.test_imbalance import LETTERS


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    root = tmp_path_factory.mktemp("members")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGDOC_CACHE", str(root / "cache"))
        made = [run.execute(build(Settings, {**LETTERS, "baseline": {"name": "tfidf-svm"}}), root)]
        for seed in (1, 2):
            training = {**LETTERS["training"], "seed": seed}
            changes = {"backbone": {"pretrained": False}, "training": training}
            made.append(run.execute(build(Settings, {**LETTERS, **changes}), root))
    return made


def together(members, root, **changes):
    names = {"members": [str(folder) for folder in members]}
    return run.execute(build(Settings, {**LETTERS, "ensemble": names, **changes}), root)


def test_an_ensemble_is_a_run_that_predicts(members, tmp_path):
    found = store.load(together(members, tmp_path))
    assert found.system == "ensemble"
    weights = found.environment["notes"]["ensemble"]
    assert set(weights) == {"tfidf-svm", "mamba-mini-48"}
    assert sum(weights.values()) == pytest.approx(1.0)
    rows = json.loads((found.folder / "model" / "members.json").read_text())
    seeds = [row["weight"] for row in rows if row["system"] == "mamba-mini-48"]
    assert seeds[0] == seeds[1] == pytest.approx(weights["mamba-mini-48"] / 2)
    assert found.timings["train_seconds"] == pytest.approx(
        sum(store.load(folder).timings["train_seconds"] for folder in members)
    )
    test = found.predictions()["test"]
    parts = [store.load(folder).predictions()["test"].scores for folder in members]
    wanted = ensemble.combine(parts, [row["weight"] for row in rows], "multi-label")
    assert np.array_equal(test.scores, wanted)
    corpus = longdoc.load_dataset("examples/letters.jsonl")
    documents = {d.id: d for part in corpus.splits.values() for d in part}
    given = longdoc.predict(found, [documents[name] for name in test.ids])
    for row, prediction in zip(test.scores, given, strict=True):
        assert np.allclose([prediction.scores[n] for n in test.labels], row, atol=1e-4)


def test_an_ensemble_stands_in_a_comparison(members, tmp_path):
    folder = together(members, tmp_path)
    found = longdoc.write_report([*members[:1], folder], tmp_path / "report.html")
    assert "ensemble" in found.read_text()


def test_members_must_be_runs_of_the_same_documents(members, tmp_path):
    other = {**LETTERS["data"], "train_documents": 30}
    with pytest.raises(RunError, match="was made on other documents"):
        together(members, tmp_path, data=other)
    in_folds = {**LETTERS["data"], "folds": 2}
    with pytest.raises(RunError, match=r"was made with data\.folds None, not 2"):
        together(members, tmp_path, data=in_folds)
    with pytest.raises(RunError, match="there is no run folder"):
        together([tmp_path / "nowhere"], tmp_path)
    with pytest.raises(SettingsError, match=r"ensemble\.members must be different run folders"):
        together([members[0], members[0]], tmp_path)
    same = members[0].parent / ".." / members[0].parent.name / members[0].name
    with pytest.raises(SettingsError, match=r"ensemble\.members must be different run folders"):
        together([members[0], same], tmp_path)


def test_runs_that_moved_together_still_find_each_other(members, tmp_path):
    for folder in members:
        shutil.copytree(folder, tmp_path / "before" / folder.name)
    copies = [tmp_path / "before" / folder.name for folder in members]
    folder = together(copies, tmp_path / "before")
    wanted = [p.scores for p in longdoc.predict(folder, ["The lift is broken"])]
    (tmp_path / "before").rename(tmp_path / "after")
    moved = tmp_path / "after" / folder.name
    assert [p.scores for p in longdoc.predict(moved, ["The lift is broken"])] == wanted


def test_a_member_that_is_gone_is_named(members, tmp_path):
    for folder in members:
        shutil.copytree(folder, tmp_path / folder.name)
    copies = [tmp_path / folder.name for folder in members]
    folder = together(copies, tmp_path)
    shutil.rmtree(copies[1])
    with pytest.raises(RunError, match=r"a member of the ensemble in .* is gone"):
        list(longdoc.predict(folder, ["The lift is broken"]))


@pytest.mark.parametrize("kind", ["multi-label", "multi-class"])
def test_one_member_keeps_its_scores(kind):
    generator = np.random.default_rng(0)
    scores = generator.random((20, 4)).astype(np.float32)
    if kind == "multi-class":
        scores /= scores.sum(axis=1, keepdims=True)
    assert np.allclose(ensemble.combine([scores], [1.0], kind), scores, atol=1e-6)


def test_weights_go_to_the_system_that_knows():
    generator = np.random.default_rng(0)
    truth = generator.random((200, 5)) < 0.2
    good = np.where(truth, 0.9, 0.1).astype(np.float32)
    noise = generator.random((200, 5)).astype(np.float32)

    def read(scores):
        cut = thresholds.choose(truth, scores, "multi-label", 10.0)["global"]
        return decide(scores, "multi-label", cut)

    weights = ensemble.weigh(truth, [noise, good], "multi-label", "micro-f1", read)
    assert weights[1] > weights[0]
    assert sum(weights) == pytest.approx(1.0)
    assert ensemble.weigh(truth, [good, good], "multi-label", "macro-f1", read) == (0.5, 0.5)
    with pytest.raises(RunError, match="are of 5 systems; at most 4"):
        ensemble.weigh(truth, [good] * 5, "multi-label", "micro-f1", read)


def test_weights_are_chosen_at_the_thresholds_that_are_used():
    # The first system ranks every label perfectly, each at a level of its own; the second makes
    # mistakes, all at one level.
    generator = np.random.default_rng(0)
    truth = generator.random((200, 5)) < 0.2
    levels = 2.0 * truth + 4.0 * np.arange(5)
    level = 3.0 * truth + generator.normal(size=(200, 5))
    systems = [(1 / (1 + np.exp(3.0 - logits))).astype(np.float32) for logits in (levels, level)]
    chosen = {
        mode: ensemble.weigh(
            truth,
            systems,
            "multi-label",
            "macro-f1",
            lambda scores, mode=mode: decide(
                scores,
                "multi-label",
                thresholds.choose(truth, scores, "multi-label", 0.0)[mode],
            ),
        )
        for mode in ("global", "per-label")
    }
    assert chosen["global"][0] < 0.5 < chosen["per-label"][0]


def test_documents_are_read_at_thresholds_chosen_without_them():
    corpus = made_corpus("multi-label", documents=120)
    truth = corpus.truth(corpus.splits["validation"])
    scores = np.random.default_rng(0).random(truth.shape).astype(np.float32)
    settings = build(Settings, {"thresholds": {"mode": "per-label", "shrinkage": 0}})
    first = ensemble_run.reader(settings, corpus, truth)(scores)
    others_differ = False
    for row in range(len(truth)):
        changed = truth.copy()
        changed[row] = ~changed[row]
        again = ensemble_run.reader(settings, corpus, changed)(scores)
        assert np.array_equal(again[row], first[row])
        others_differ = others_differ or not np.array_equal(again, first)
    assert others_differ
    # On noise, thresholds that saw the documents look better than they are.
    seen = thresholds.choose(truth, scores, "multi-label", 0.0)["per-label"]
    optimistic = classification.averages(truth, decide(scores, "multi-label", seen))["macro-f1"]
    assert classification.averages(truth, first)["macro-f1"] < optimistic


@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label"])
@pytest.mark.parametrize("documents", [1, 2, 3, 30])
def test_few_documents_and_every_kind_are_read(documents, kind):
    corpus = made_corpus(kind, documents=120)
    few = replace(
        corpus,
        splits={**corpus.splits, "validation": corpus.splits["validation"][:documents]},
    )
    truth = few.truth(few.splits["validation"])
    scores = np.random.default_rng(0).random(truth.shape).astype(np.float32)
    decided = ensemble_run.reader(Settings(), few, truth)(scores)
    assert decided.shape == truth.shape
    if kind != "multi-label":
        assert (decided.sum(axis=1) == 1).all()  # a row that no part held would be as memory was
