"""Imbalance in whole runs: what is recorded, corrected, and shared by frozen backbones."""

import json

import numpy as np
import pytest
from safetensors import safe_open

import longdoc
from longdoc.errors import SettingsError
from longdoc.experiments import frozen, job, run, store
from longdoc.experiments.settings import Settings
from longdoc.imbalance import ImbalanceSettings
from longdoc.imbalance.catalog import check
from longdoc.settings import build
from longdoc.training import workplace
from longdoc.training.predict import Reader

LETTERS = {
    "data": {"dataset": "examples/letters.jsonl"},
    "tokens": {"max_tokens": 48, "vocabulary": 400},
    "training": {"epochs": 2, "batch_size": 8, "precision": "float32"},
}


def made(root, **changes):
    return store.load(run.execute(build(Settings, {**LETTERS, **changes}), root))


def test_a_run_records_its_answer_to_imbalance(tmp_path):
    answer = {"loss": "db", "sampler": "oversampling"}
    found = made(tmp_path, backbone={"pretrained": False}, imbalance=answer)
    notes = found.environment["notes"]["imbalance"]
    assert notes["loss"] == "db"
    assert 0 < notes["mu"] <= 1
    assert notes["label_documents"]["before"] == found.data["training_counts"]
    assert notes["documents"]["after"] >= notes["documents"]["before"]
    assert found.settings.imbalance.loss == "db"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"power": 0.25}, "imbalance.power is for weighted_bce; got loss bce, sampler none"),
        (
            {"loss": "db", "beta": 0.5},
            "imbalance.beta is for class_balanced, cb, cb_ntr; got loss db",
        ),
        ({"sampler": "oversampling", "growth": 0.5}, "growth is for ml_ros, lp_ros; got loss bce"),
        ({"max_repeats": 3}, "max_repeats is for oversampling, ml_ros, lp_ros; got loss bce"),
    ],
)
def test_a_number_that_nothing_would_look_at_is_refused(tmp_path, answer, message):
    with pytest.raises(SettingsError, match=message):
        made(tmp_path, imbalance=answer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "answer",
    [
        {"loss": "weighted_bce", "power": 0.25, "max_weight": 5},
        {"loss": "db", "mu": 0.5, "gamma": 1.0, "loss_weight": 2.0},
        {"sampler": "oversampling", "max_repeats": 3},
        {"loss": "asl", "margin": 0.1, "sampler": "ml_ros", "growth": 0.5},
    ],
)
def test_a_number_that_is_looked_at_is_taken(answer):
    check(build(ImbalanceSettings, answer))


def test_corrected_scores_are_those_that_predict_gives(tmp_path):
    answer = {"sampler": "class_aware", "prior_correction": True}
    found = made(tmp_path, backbone={"pretrained": False}, imbalance=answer)
    plain = made(tmp_path, backbone={"pretrained": False}, imbalance={"sampler": "class_aware"})
    test = found.predictions()["test"]
    before = plain.predictions()["test"].scores
    shift = np.array(found.environment["notes"]["imbalance"]["logit_shift"])
    assert np.abs(shift).max() > 0.01
    moved = np.log(test.scores / (1 - test.scores)) - np.log(before / (1 - before))
    assert np.allclose(moved, shift, atol=1e-3)
    corpus = longdoc.load_dataset("examples/letters.jsonl")
    documents = {d.id: d for part in corpus.splits.values() for d in part}
    given = list(longdoc.predict(found, [documents[name] for name in test.ids]))
    for row, prediction in zip(test.scores, given, strict=True):
        scores = [prediction.scores[label] for label in test.labels]
        assert np.allclose(scores, row, atol=1e-5)


def test_a_loss_without_softmax_is_refused_before_training(tmp_path):
    file = tmp_path / "own.jsonl"
    rows = [
        f'{{"text": "number {n} {"abc"[n % 3]}", "label": "{"abc"[n % 3]}"}}' for n in range(60)
    ]
    file.write_text("\n".join(rows))
    data = {"dataset": str(file)}
    with pytest.raises(SettingsError, match="'asl' is not for labels that exclude each other"):
        made(tmp_path, data=data, backbone={"pretrained": False}, imbalance={"loss": "asl"})


@pytest.mark.parametrize("name", ["mamba-mini", "gpt-neo-mini", "bert-mini"])
def test_a_frozen_backbone_reads_once_for_all_runs(tmp_path, monkeypatch, name):
    changes = {"backbone": {"name": name}, "adapter": {"preset": "head-only"}}
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    first = made(tmp_path, **changes)
    kept = list((tmp_path / "cache" / "vectors").iterdir())
    assert len(kept) == 1

    def unread(*_, **__):
        pytest.fail("the documents were read again")

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "vectors", unread)
        patch.setattr(Reader, "scores", unread)
        second = made(tmp_path, **changes, imbalance={"loss": "fl"})
    assert list((tmp_path / "cache" / "vectors").iterdir()) == kept
    assert second.metrics != first.metrics
    model = {file.name for file in (first.folder / "model").iterdir()}
    assert model == {"head.safetensors", "base.json", "tokenizer"}
    test = first.predictions()["test"]
    corpus = longdoc.load_dataset("examples/letters.jsonl")
    documents = {d.id: d for part in corpus.splits.values() for d in part}
    for row, given in zip(
        test.scores,
        longdoc.predict(first, [documents[name] for name in test.ids]),
        strict=True,
    ):
        assert np.allclose([given.scores[label] for label in test.labels], row, atol=1e-5)


def test_a_frozen_backbone_of_random_weights_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    found = made(tmp_path, backbone={"pretrained": False}, adapter={"preset": "head-only"})
    assert not (tmp_path / "cache" / "vectors").exists()
    assert found.timings["trainable_parameters"] < 0.01 * found.timings["parameters"]
    assert list(longdoc.predict(found, ["The lift is broken"]))


def test_an_interrupted_run_of_a_head_goes_on_to_the_same_result(tmp_path, monkeypatch):
    changes = {"backbone": {"name": "bert-mini"}, "adapter": {"preset": "head-only"}}
    whole = made(tmp_path / "whole", **changes)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "scores_of_vectors", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path / "cut", **changes)
    for file in frozen.cache_folder().glob("vectors/*"):
        file.write_bytes(b"damaged")
    again = made(tmp_path / "cut", **changes)
    for split in ("validation", "test"):
        found, wanted = again.predictions()[split].scores, whole.predictions()[split].scores
        assert np.array_equal(found, wanted)


def test_reading_is_paid_for_once_where_a_run_of_a_head_is_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(workplace, "NOTED_SECONDS", -1.0)
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    changes = {"backbone": {"name": "gpt-neo-mini"}, "adapter": {"preset": "head-only"}}

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "_fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path, **changes)
    (partial,) = tmp_path.glob(".*.partial")
    assert workplace.elapsed(partial) == 0
    assert made(tmp_path, **changes).environment["notes"]["interrupted"] is False


def test_every_run_pays_for_what_its_backbone_read(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    changes = {"backbone": {"name": "gpt-neo-mini"}, "adapter": {"preset": "head-only"}}
    first = made(tmp_path, **changes)
    second = made(tmp_path, **changes, imbalance={"loss": "fl"})
    (file,) = (tmp_path / "cache" / "vectors").iterdir()
    with safe_open(file, framework="numpy") as opened:
        seconds = json.loads(opened.metadata()["seconds"])
    for run_ in (first, second):
        assert run_.timings["train_seconds"] > 0.7 * seconds  # 60 + 20 of 100 letters
        assert run_.timings["predict_seconds"] > 0.3 * seconds


def test_vectors_of_other_tokens_or_weights_have_another_name():
    def tokens(last):
        return [bytes([last]) * 32]

    def name(read=None, **changes):
        record = build(Settings, {**LETTERS, **changes})
        return frozen.place(record, read or tokens(3))

    assert name() == name(training={**LETTERS["training"], "seed": 5, "batch_size": 3})
    others = {
        name(), name(tokens(4)), name(backbone={"name": "bert-mini"}),
        name(backbone={"name": "bert-mini", "pooling": "first"}),
        name(training={"precision": "bfloat16"}),
    }  # fmt: skip
    assert len(others) == 5
    assert name(backbone={"pretrained": False}) is None
