"""Runs and comparisons: complete or absent, resumed where they were, and honest about failures."""

import json
import shutil

import huggingface_hub
import numpy as np
import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

import longdoc
from longdoc import predictions
from longdoc.errors import DataError, LongdocError, RunError
from longdoc.experiments import compare, plan, run, store
from longdoc.experiments.settings import Settings
from longdoc.metrics import significance
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
    for name in ("truth", "scores", "tokens", "seen"):
        assert np.array_equal(getattr(again, name), getattr(part, name)), name
    assert (again.ids, again.labels, again.kind) == (part.ids, part.labels, part.kind)


def test_scores_that_are_not_finite_and_files_that_are_none_are_refused(tmp_path):
    empty = np.zeros((1, 1))
    with pytest.raises(DataError, match="1 scores are not finite"):
        Predictions(split="test", kind="multi-label", labels=("a",), ids=("x",), truth=empty > 0,
                    scores=np.full((1, 1), np.nan, np.float32), tokens=np.zeros(1, int), seen=np.zeros(1, int))  # fmt: skip
    (tmp_path / "p.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="not a predictions file"):
        predictions.load(tmp_path / "p.parquet")


PLAN = {
    "name": "small", "seeds": [0, 1], "resamples": 200, "baselines": False, "settings": TINY,
    "systems": [
        {"name": "svm", "baseline": {"name": "tfidf-svm"}},
        {"name": "majority", "baseline": {"name": "majority"}},
        {"name": "missing", "backbone": {"name": "no-such-backbone"}},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    root = tmp_path_factory.mktemp("compare")
    return compare.execute(plan.make(PLAN), root), root


def test_a_comparison_orders_systems_and_names_what_did_not_run(comparison):
    found, _ = comparison
    assert [system.name for system in found.systems] == ["svm", "majority"]
    assert set(found.failures) == {"missing (seed 0)", "missing (seed 1)"}
    assert "is no catalogue name" in found.failures["missing (seed 0)"]
    assert [len(system.runs) for system in found.systems] == [2, 2]


def test_every_pair_is_tested_for_both_metrics_and_said_in_words(comparison):
    found, _ = comparison
    assert {(p.first, p.second, p.metric) for p in found.pairs} == {
        ("svm", "majority", "micro-f1"), ("svm", "majority", "macro-f1"),
    }  # fmt: skip
    sentence = found.pair("majority", "svm", "macro-f1").sentence()
    assert sentence.startswith("svm is better than majority in macro-f1 by")


def test_equal_systems_are_not_significantly_different(comparison, tmp_path):
    found, _ = comparison
    copies = [store.load(r.folder) for r in found.systems[0].runs]
    other = [store.Run(**{**vars(r), "system": "twin"}) for r in copies]
    both = compare.from_runs([*copies, *other])
    pair = both.pair("svm", "twin", "macro-f1")
    assert not pair.significant
    assert "are not significantly different" in pair.sentence()


@pytest.mark.parametrize("seeds", [(2, 2), (2, 1), (1, 2)])
def test_swapping_nothing_leaves_the_difference_of_the_means(comparison, seeds, monkeypatch):
    svm, majority = (system.runs for system in comparison[0].systems)
    monkeypatch.setattr(significance, "swaps", lambda n, r, seed: np.zeros((r, n), np.float32))
    given = []
    plain = significance.compare

    def watched(observed, first, second, swapped):
        given.append((observed, swapped))
        return plain(observed, first, second, swapped)

    monkeypatch.setattr(significance, "compare", watched)
    found = compare.from_runs([*svm[: seeds[0]], *majority[: seeds[1]]])
    assert len(given) == 2
    for observed, swapped in given:
        assert observed != 0
        assert swapped == pytest.approx(np.full(len(swapped), observed))
    # What is left when nothing is swapped is all of it, so nothing is beyond chance.
    assert all(pair.difference.p == 1.0 for pair in found.pairs)


def test_the_order_in_which_runs_are_given_changes_nothing(comparison):
    runs = [run for system in comparison[0].systems for run in system.runs]
    there, back = (compare.from_runs(given).pairs for given in (runs, runs[::-1]))
    assert [pair.difference.p for pair in there] == [pair.difference.p for pair in back]


def test_an_interrupted_comparison_goes_on_where_it_was(comparison):
    found, root = comparison
    before = {
        r.folder: (r.folder / "metrics.json").stat().st_mtime_ns
        for s in found.systems
        for r in s.runs
    }
    gone = found.systems[0].runs[0].folder
    shutil.rmtree(gone)
    again = compare.execute(plan.make(PLAN), root)
    assert compare.as_values(again) == compare.as_values(found)
    for folder, time in before.items():
        assert ((folder / "metrics.json").stat().st_mtime_ns == time) == (folder != gone)


def test_the_comparison_is_kept_as_json(comparison):
    found, root = comparison
    kept = json.loads((root / "small" / "comparison.json").read_text())
    assert kept["systems"][0]["test"]["fixed"]["micro-f1"]["mean"] == found.systems[0].mean(
        "micro-f1", "fixed"
    )
    assert kept["not_run"] == found.failures


def test_runs_on_other_documents_are_not_compared(comparison, tmp_path):
    found, _ = comparison
    other = run.execute(settings(baseline={"name": "majority"}), tmp_path, corpus=made_corpus())
    with pytest.raises(RunError, match="were made on different documents"):
        compare.from_runs([found.systems[0].runs[0], store.load(other)])


def test_a_plan_of_which_nothing_runs_says_why(tmp_path):
    broken = {**PLAN, "systems": [{"name": "x", "data": {"dataset": "no-such-data"}}]}
    with pytest.raises(
        LongdocError, match="not one run succeeded: there is no file or folder no-such-data"
    ):
        compare.execute(plan.make(broken), tmp_path)


def test_intervals_hold_the_mean(comparison):
    found, _ = comparison
    for system in found.systems:
        low, high = system.intervals["micro-f1"]
        assert low <= system.mean("micro-f1", found.mode) <= high
