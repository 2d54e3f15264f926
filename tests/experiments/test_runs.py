"""Runs and comparisons: complete or absent, resumed where they were, and honest about failures."""

import json
import shutil

import huggingface_hub
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

import longdoc
from longdoc import predictions
from longdoc.errors import DataError, MissingPartError, RunError
from longdoc.experiments import compare, run, store
from longdoc.experiments.settings import Settings
from longdoc.predictions import Predictions, decide
from longdoc.settings import build
from longdoc.tokens import tokenizers
from longdoc.training.predict import Reader
from tests.conftest import made_corpus

TINY = {
    "data": {"dataset": "examples/letters.jsonl"},
    "backbone": {"pretrained": False},
    "tokens": {"max_tokens": 48, "vocabulary": 400},
    "training": {"epochs": 1, "batch_size": 8, "precision": "float32"},
}


def settings(**changes):
    return build(Settings, {**TINY, **changes})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Make one run of each kind, once."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGDOC_CACHE", str(root / "cache"))
        made = {
            "mamba": run.execute(settings(), root),
            "lora": run.execute(
                settings(
                    backbone={"name": "gpt-neo-mini", "pretrained": False},
                    adapter={"preset": "e5-mistral", "rank": 2},
                ),
                root,
            ),
            "svm": run.execute(settings(baseline={"name": "tfidf-svm"}), root),
            "majority": run.execute(settings(baseline={"name": "majority"}), root),
        }
    return {name: store.load(folder) for name, folder in made.items()}


def test_a_run_folder_holds_everything(runs):
    found = {file.name for file in runs["mamba"].folder.iterdir()}
    assert found == {
        "settings.json", "environment.json", "data.json", "metrics.json", "timings.json",
        "history.jsonl", "predictions.parquet", "model",
    }  # fmt: skip
    assert runs["mamba"].data["digest"]
    assert runs["mamba"].environment["selective_scan"]
    assert runs["mamba"].timings["train_tokens"] > 0
    assert runs["mamba"].timings["peak_bytes"] > 1e8


def test_a_finished_run_is_not_made_again(runs):
    before = (runs["mamba"].folder / "metrics.json").stat().st_mtime_ns
    folder = run.execute(settings(), runs["mamba"].folder.parent)
    assert folder == runs["mamba"].folder
    assert (folder / "metrics.json").stat().st_mtime_ns == before


def as_of_another_version(folder, place, change):
    """Copy a run, with its settings as another version of longdoc would have written them."""
    copied = shutil.copytree(folder, place / folder.name)
    kept = json.loads((copied / "settings.json").read_text())
    change(kept["settings"])
    (copied / "settings.json").write_text(json.dumps(kept))
    return copied


def test_a_run_outlives_a_setting_that_is_added_or_removed(runs, tmp_path):
    def change(kept):
        del kept["training"]["patience"]
        kept["training"]["abolished"] = 3

    copied = as_of_another_version(runs["majority"].folder, tmp_path, change)
    given = settings(baseline={"name": "majority"})
    assert run.execute(given, tmp_path) == copied


def test_a_run_does_not_outlive_a_default_that_changed(runs, tmp_path):
    def change(kept):
        kept["training"]["patience"] = 77

    copied = as_of_another_version(runs["majority"].folder, tmp_path, change)
    given = settings(baseline={"name": "majority"})
    wanted = r"was made by another version of longdoc: training\.patience was 77 and is"
    with pytest.raises(RunError, match=wanted):
        run.execute(given, tmp_path)
    copied.rename(store.partial_folder(tmp_path, copied.name))
    (store.partial_folder(tmp_path, copied.name) / "metrics.json").unlink()  # still at work
    with pytest.raises(RunError, match=wanted):
        run.execute(given, tmp_path)


def test_two_processes_cannot_work_on_the_same_run(tmp_path):
    with (
        store.alone_in(tmp_path),
        pytest.raises(RunError, match="another process is at work on"),
        store.alone_in(tmp_path),
    ):
        pass


def test_a_folder_in_the_way_is_said_before_anything_is_trained(runs, tmp_path):
    (tmp_path / runs["mamba"].folder.name).mkdir()
    with pytest.raises(RunError, match="is there, but is no complete run; move it away"):
        run.execute(settings(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_single_text_is_not_taken_for_a_list_of_letters(runs):
    with pytest.raises(RunError, match="texts must be a list of texts; got one text"):
        list(longdoc.predict(runs["svm"], "hello"))


def test_a_run_predicts_after_its_documents_and_its_origin_are_gone(runs, tmp_path, monkeypatch):
    moved = tmp_path / "elsewhere"
    shutil.copytree(runs["mamba"].folder, moved)
    kept = json.loads((moved / "settings.json").read_text())
    kept["settings"]["backbone"]["name"] = "/no/longer/there"
    (moved / "settings.json").write_text(json.dumps(kept))
    (found,) = longdoc.predict(moved, ["The lift is broken"])
    assert set(found.scores) == set(runs["mamba"].data["labels"])


def checkpoint(folder, seed=0):
    """Write a tiny checkpoint as a hub has it."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.train(["a small tokenizer of a few hundred entries"], 300)
    config = MambaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, state_size=4
    )
    MambaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_an_adapter_stays_with_the_weights_it_was_trained_on(tmp_path):
    name = str(checkpoint(tmp_path / "checkpoint"))
    chosen = settings(backbone={"name": name}, adapter={"preset": "e5-mistral", "rank": 2})
    made = store.load(run.execute(chosen, tmp_path / "runs"))
    assert not (made.folder / "model" / "weights").exists()
    assert list(longdoc.predict(made, ["The lift is broken"]))
    checkpoint(tmp_path / "checkpoint", seed=1)
    with pytest.raises(RunError, match=r"was trained on .* with weights of SHA-256"):
        list(longdoc.predict(made, ["The lift is broken"]))


def test_an_adapter_on_a_hub_checkpoint_asks_for_the_same_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    first, second = "1" * 40, "2" * 40
    place = tmp_path / "hub" / "models--somebody--tiny"
    checkpoint(place / "snapshots" / first)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(first)
    chosen = settings(
        backbone={"name": "somebody/tiny"}, adapter={"preset": "e5-mistral", "rank": 2}
    )
    made = store.load(run.execute(chosen, tmp_path / "runs"))
    kept = json.loads((made.folder / "model" / "base.json").read_text())
    assert kept == {"checkpoint": "somebody/tiny", "commit": first}
    (before,) = longdoc.predict(made, ["The lift is broken"])
    checkpoint(place / "snapshots" / second, seed=1)
    (place / "refs" / "main").write_text(second)
    (after,) = longdoc.predict(made, ["The lift is broken"])
    assert after.scores == before.scores


def test_runs_of_one_name_with_other_settings_are_not_taken_for_seeds(tmp_path):
    made = [
        store.load(
            run.execute(settings(baseline={"name": "tfidf-svm", "c": c}), tmp_path, name="svm")
        )
        for c in (1, 10)
    ]
    with pytest.raises(RunError, match=r"are both called svm and differ in baseline\.c"):
        compare.from_runs(made)
    with pytest.raises(RunError, match="are both called svm and have the same seed"):
        compare.from_runs([made[0], made[0]])


def test_another_setting_or_document_is_another_run(runs):
    corpus = made_corpus()
    names = {
        run.run_name(settings(), corpus),
        run.run_name(settings(training={**TINY["training"], "epochs": 2}), corpus),
        run.run_name(settings(), made_corpus(seed=1)),
    }
    assert len(names) == 3


@pytest.mark.parametrize("name", ["mamba", "lora", "svm", "majority"])
def test_a_loaded_run_predicts_what_it_recorded(runs, name, letters):
    test = runs[name].predictions()["test"]
    found = list(longdoc.predict(runs[name], letters.splits["test"]))
    assert [p.id for p in found] == list(test.ids)
    cuts = np.array(runs[name].metrics["thresholds"]["per-label"])
    decided = decide(test.scores, test.kind, cuts)
    for row, prediction in enumerate(found):
        for column, label in enumerate(test.labels):
            assert prediction.scores[label] == pytest.approx(
                float(test.scores[row, column]), abs=1e-5
            )
            clear = abs(test.scores[row, column] - cuts[column]) > 1e-5
            assert not clear or (label in prediction.labels) == decided[row, column]
        assert list(prediction.scores.values()) == sorted(prediction.scores.values(), reverse=True)


def test_lora_on_random_weights_saves_the_backbone_beside_the_adapter(runs):
    inside = {path.name for path in (runs["lora"].folder / "model").iterdir()}
    assert inside == {"tokenizer", "weights", "adapter"}


def test_an_incomplete_folder_is_no_run(runs, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(runs["svm"].folder, broken)
    (broken / "metrics.json").unlink()
    with pytest.raises(RunError, match=r"is no complete run: metrics.json missing"):
        store.load(broken)
    shutil.copytree(runs["svm"].folder, tmp_path / "damaged")
    (tmp_path / "damaged" / "metrics.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        store.load(tmp_path / "damaged")


def test_an_interrupted_run_leaves_no_folder_of_its_name_and_goes_on(tmp_path, monkeypatch):
    wanted = run.execute(settings(), tmp_path / "whole")
    original = Reader.scores

    def interrupted(*args, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(Reader, "scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.execute(settings(), tmp_path / "cut")
    assert [p for p in (tmp_path / "cut").iterdir() if not p.name.startswith(".")] == []
    monkeypatch.setattr(Reader, "scores", original)
    folder = run.execute(settings(), tmp_path / "cut")
    assert store.load(folder).metrics == store.load(wanted).metrics
    assert [p.name for p in (tmp_path / "cut").iterdir()] == [folder.name]


@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label"])
def test_every_kind_of_task_runs_from_end_to_end(tmp_path, kind):
    for changes in ({}, {"baseline": {"name": "tfidf-svm"}}, {"baseline": {"name": "majority"}}):
        folder = run.execute(settings(**changes), tmp_path, corpus=made_corpus(kind))
        found = store.load(folder).metrics["splits"]["test"]["global"]
        assert 0 <= found["macro-f1"] <= 1
        if kind != "multi-label":
            assert found["micro-f1"] == pytest.approx(found["strict-accuracy"])


def test_predictions_survive_saving(tmp_path):
    generator = np.random.default_rng(0)
    part = Predictions(
        split="test", kind="multi-label", labels=("a", "b"), ids=("x", "y", "z"),
        truth=generator.random((3, 2)) < 0.5, scores=generator.random((3, 2)).astype(np.float32),
        tokens=np.array([1, 2, 3]), seen=np.array([1, 2, 2]),
    )  # fmt: skip
    predictions.save([part], tmp_path / "p.parquet")
    again = predictions.load(tmp_path / "p.parquet")["test"]
    assert again.groups is None
    for name in ("truth", "scores", "tokens", "seen"):
        assert np.array_equal(getattr(again, name), getattr(part, name)), name
    assert (again.ids, again.labels, again.kind) == (part.ids, part.labels, part.kind)


def test_groups_are_kept_by_number_and_a_file_without_them_is_read(tmp_path):
    nothing = np.zeros((4, 1))
    common = {"kind": "multi-label", "labels": ("a",), "ids": tuple("wxyz"), "truth": nothing > 0,
              "scores": nothing.astype(np.float32), "tokens": np.zeros(4, int),
              "seen": np.zeros(4, int)}  # fmt: skip
    parts = [
        Predictions(split="validation", **common),
        Predictions(split="test", **common, groups=np.array([1, 0, 1, 2])),
    ]
    file = tmp_path / "p.parquet"
    predictions.save(parts, file)
    again = predictions.load(file)
    assert again["validation"].groups is None
    assert again["test"].groups.tolist() == [1, 0, 1, 2]
    pq.write_table(pq.read_table(file).drop_columns(["group"]), file)
    assert predictions.load(file)["test"].groups is None


def test_scores_that_are_not_finite_and_files_that_are_none_are_refused(tmp_path):
    empty = np.zeros((1, 1))
    with pytest.raises(DataError, match="1 scores are not finite"):
        Predictions(split="test", kind="multi-label", labels=("a",), ids=("x",), truth=empty > 0,
                    scores=np.full((1, 1), np.nan, np.float32), tokens=np.zeros(1, int), seen=np.zeros(1, int))  # fmt: skip
    (tmp_path / "p.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="not a predictions file"):
        predictions.load(tmp_path / "p.parquet")


@pytest.mark.parametrize("wrong", [None, 1, {"text": "a"}])
def test_what_is_no_text_is_not_classified(runs, wrong):
    with pytest.raises(RunError, match="text 1 must be text; got"):
        list(longdoc.predict(runs["svm"], ["a letter", wrong]))


def test_a_report_is_made_of_runs_or_of_their_folders(runs, tmp_path):
    run = runs["svm"]
    for number, given in enumerate(([run], [run.folder], run.folder, str(run.folder))):
        page = longdoc.write_report(given, tmp_path / f"{number}.html")
        assert "tfidf-svm" in page.read_text()


def test_a_run_that_could_not_begin_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    values = {"data": {"dataset": "examples/letters.jsonl"}, "backbone": {"name": "mamba-130m"}}
    with pytest.raises(MissingPartError, match="neither in the local cache"):
        run.execute(build(Settings, values), tmp_path)
    assert not any(tmp_path.iterdir())
