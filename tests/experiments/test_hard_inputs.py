"""Odd but possible settings, folders and files of experiments."""

import json
from dataclasses import replace

import numpy as np
import pytest
from transformers import AutoTokenizer

import longdoc
from longdoc.backbones.build import own_tokenizer, resolve
from longdoc.errors import RunError, SettingsError
from longdoc.experiments import space, study, sweep
from longdoc.experiments.settings import Settings
from longdoc.settings import build
from longdoc.tokens.encoding import encode
from tests.conftest import ROOT, run_command
from tests.experiments.test_runs import checkpoint

LETTERS = ROOT / "examples" / "letters.jsonl"
SVM = {"data": {"dataset": str(LETTERS)}, "baseline": {"name": "tfidf-svm"}}
"""A system that trains in a second."""


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_search_with_as_many_trials_as_combinations_tries_each(tmp_path, method):
    content = {"name": "s", "method": method, "trials": 6, "seeds": [1], "settings": SVM}
    made = space.make({**content, "space": {"baseline.features": [50, 100, 200, 400]}})
    found = sweep.execute(made, tmp_path)
    assert (found.made, found.planned, found.complete) == (4, 4, True)
    assert len({tuple(entry.point.values()) for entry in found.tried}) == 4


def test_half_a_line_of_another_process_is_taken_away_before_the_next(tmp_path):
    made = space.make(
        {"name": "s", "seeds": [1], "settings": SVM, "space": {"baseline.features": [50, 100]}}
    )
    first = sweep.execute(made, tmp_path)
    at_work = study.Study(tmp_path / "s", made, lambda point, runs: True)
    with (tmp_path / "s" / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code": 4, "wor')
    with at_work.next() as trial:
        assert trial is None
    again = sweep.execute(made, tmp_path)
    assert [entry.point for entry in again.tried] == [entry.point for entry in first.tried]


def test_values_that_differ_late_are_different_choices():
    made = space.make({"name": "s", "settings": SVM, "space": {"baseline.c": [0.12345678, 0.12345679]}})  # fmt: skip
    assert made.trials() == 2


def test_label_rows_are_those_of_the_split(tmp_path):
    run = longdoc.train(SVM, tmp_path)
    done = run_command(
        "evaluate", str(run.folder), "--split", "validation", "--labels", "--format", "json"
    )
    assert done.returncode == 0, done.stderr
    parts = run.predictions()
    rows = json.loads(done.stdout)["labels"]
    assert [row["validation"] for row in rows] == parts["validation"].truth.sum(axis=0).tolist()
    assert all("test" not in row for row in rows)
    shown = run_command("evaluate", str(run.folder), "--split", "validation", "--labels")
    assert "labels on the validation split" in shown.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"imbalance": {"loss": "db"}}, "imbalance.loss must be left out: baseline.name tfidf-svm"),
     ({"adapter": {"preset": "none"}}, "adapter.preset must be left out: baseline.name tfidf-svm")],
)  # fmt: skip
def test_what_a_baseline_does_not_look_at_is_refused(tmp_path, changes, words):
    with pytest.raises(SettingsError, match=words):
        longdoc.train({**SVM, **changes}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_paths_serve_as_text():
    values = {"data": {"dataset": LETTERS}, "ensemble": {"members": [LETTERS]}}
    made = build(Settings, values)
    assert (made.data.dataset, made.ensemble.members) == (str(LETTERS), (str(LETTERS),))


def small(folder, **changes):
    values = {
        "data": {"dataset": str(LETTERS)},
        "backbone": {"name": str(folder)},
        "tokens": {"max_tokens": 16},
        "training": {"epochs": 0.1, "precision": "float32"},
        **changes,
    }
    return build(Settings, values)


@pytest.mark.parametrize("preset", ["none", "e5-mistral"])
def test_a_folder_with_other_weights_does_not_give_out_what_was_trained_before(tmp_path, preset):
    adapter = {"preset": preset} if preset == "none" else {"preset": preset, "rank": 2}
    wanted = small(checkpoint(tmp_path / "backbone"), adapter=adapter)
    first = longdoc.train(wanted, tmp_path / "runs")
    assert longdoc.train(wanted, tmp_path / "runs").folder == first.folder
    checkpoint(tmp_path / "backbone", seed=1)
    with pytest.raises(RunError, match=r"trained on other weights than .*backbone has now; move"):
        longdoc.train(wanted, tmp_path / "runs")


@pytest.mark.parametrize("name", ["mamba-mini", "gpt-neo-mini", "bert-mini"])
def test_the_tokenizer_of_a_run_frames_texts_as_training_did(tmp_path, name):
    settings = small(tmp_path, backbone={"name": name}, adapter={"preset": "none"})
    run = longdoc.train(settings, tmp_path / "runs")
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "model" / "tokenizer")
    documents = longdoc.load_dataset(str(LETTERS)).splits["test"]
    causal = name != "bert-mini"
    wanted = [part.ids.tolist() for part in encode(documents, tokenizer, settings.tokens, causal=causal)]  # fmt: skip
    found = tokenizer([document.text for document in documents], truncation=True)["input_ids"]
    assert found == wanted
    model, loaded = longdoc.load_model(run)
    assert not model.training
    assert loaded("x")["input_ids"] == tokenizer("x")["input_ids"]


def test_special_tokens_that_a_document_spells_are_signs(tmp_path):
    settings = small(tmp_path, backbone={"name": "mamba-mini"})
    tokenizer = own_tokenizer(resolve(settings.backbone), settings.backbone)
    document = longdoc.load_dataset(str(LETTERS)).splits["test"][0]
    spelled = replace(document, paragraphs=(f"I wrote {tokenizer.eos_token} here",))
    (part,) = encode([spelled], tokenizer, replace(settings.tokens, max_tokens=64), causal=True)
    assert np.flatnonzero(part.ids == tokenizer.eos_token_id).tolist() == [len(part.ids) - 1]
    assert tokenizer.decode(part.ids[:-1]) == spelled.text


def test_a_place_to_report_to_that_nobody_knows_is_said_before_anything_is_learnt(tmp_path):
    settings = small(tmp_path, training={"report_to": "other"}, backbone={"name": "mamba-mini"})
    with pytest.raises(
        SettingsError, match=r"training\.report_to must be none, all, .*got 'other'"
    ):
        longdoc.train(settings, tmp_path / "runs")


def test_folds_know_the_weights_they_came_from(tmp_path):
    data = {"dataset": str(LETTERS), "folds": 2}
    wanted = small(checkpoint(tmp_path / "backbone"), data=data, adapter={"preset": "none"})
    first = longdoc.train(wanted, tmp_path / "runs")
    for file in (tmp_path / "backbone").glob("*"):
        file.rename(tmp_path / file.name)
    assert longdoc.train(wanted, tmp_path / "runs").folder == first.folder
    checkpoint(tmp_path / "backbone", seed=1)
    with pytest.raises(RunError, match=r"trained on other weights than .*backbone has now; move"):
        longdoc.train(wanted, tmp_path / "runs")


@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "GPTNeoXTokenizer"])
def test_a_tokenizer_of_every_class_frames_texts_once_it_was_saved(tmp_path, kind):
    checkpoint(tmp_path / "backbone")
    file = tmp_path / "backbone" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tokenizer_class": kind}))
    run = longdoc.train(small(tmp_path / "backbone", adapter={"preset": "none"}), tmp_path / "runs")
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "model" / "tokenizer")
    end = tokenizer.eos_token_id
    assert tokenizer("The lift")["input_ids"][-1] == end
    assert tokenizer(f"The {tokenizer.eos_token} lift")["input_ids"].count(end) == 1
    (run.folder / "model" / "tokenizer" / "tokenizer.json").write_text(
        (tmp_path / "backbone" / "tokenizer.json").read_text()
    )
    assert longdoc.load_model(run)[1]("The lift")["input_ids"][-1] == end


def test_a_label_of_validation_that_training_lacks_stops_no_training(tmp_path):
    rows = [
        {"text": f"{label} letter {n} of {label}", "label": label, "split": split}
        for split, labels in (("train", "abc"), ("validation", "abcd"), ("test", "abc"))
        for n in range(6)
        for label in labels
    ]
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    settings = {
        "data": {"dataset": str(file)}, "backbone": {"name": "bert-mini", "pretrained": False},
        "tokens": {"max_tokens": 16, "vocabulary": 300}, "training": {"epochs": 1},
    }  # fmt: skip
    run = longdoc.train(settings, tmp_path / "runs")
    assert run.data["labels"] == ["a", "b", "c"]
    assert np.isfinite(run.metrics["splits"]["validation"]["fixed"]["macro-f1"])
