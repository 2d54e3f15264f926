"""Training: the same however it is cut up, resumed as undisturbed, and blind to the test split."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from longdoc.errors import RunError, SettingsError
from longdoc.imbalance.plain import bce
from longdoc.tokens.batches import EpochBatches
from longdoc.training import checkpoint, objective, trainer
from longdoc.training.settings import TrainingSettings, check, head_rate, learning_rate
from tests import tolerances
from tests.assertions import assert_close
from tests.conftest import ROOT
from tests.training.steps import SETTINGS, prepared, weights


def fitted(tmp_path, name="mamba-mini", kind="multi-label", answers=None, **changes):
    model, splits = prepared(name, kind, answers=answers)
    settings = replace(SETTINGS, **{"checkpoint_minutes": 5.0, **changes})
    return trainer.fit(
        model, splits["train"], splits["validation"], settings, rate=1e-3, folder=tmp_path
    )


def process(options, *launcher):
    command = [sys.executable, *launcher, "-m", "tests.training.steps", json.dumps(options)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(running):
    out, err = running.communicate(timeout=240)
    assert running.returncode == 0, err[-2000:]
    return re.search(r"digest (\w+)", out)[1]


def assert_same_weights(found, wanted, tolerance):
    for name, part in wanted.items():
        assert_close(found[name], part, tolerance, name)


@pytest.mark.slow
def test_batch_16_equals_8_batches_of_2_accumulated(tmp_path):
    whole = fitted(tmp_path / "a")
    cut = fitted(tmp_path / "b", batch_size=2, accumulation=8)
    assert whole.steps == cut.steps == 6
    assert_same_weights(weights(cut.model), weights(whole.model), tolerances.STEP_FLOAT32)


@pytest.mark.slow
@pytest.mark.parametrize("answers", [None, {"loss": "cb_ntr", "sampler": "ml_ros"}])
def test_two_processes_of_8_equal_batch_16(tmp_path, answers):
    whole = fitted(tmp_path / "a", answers=answers)
    options = {"folder": str(tmp_path / "b"), "out": str(tmp_path / "w.pt"), "batch_size": 8,
               "checkpoint_minutes": 5.0, "answers": answers}  # fmt: skip
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    command = [sys.executable, *launcher, "--module", "tests.training.steps", json.dumps(options)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = torch.load(tmp_path / "w.pt", weights_only=True)
    assert_same_weights(found, weights(whole.model), tolerances.STEP_FLOAT32)


def test_the_last_incomplete_step_weighs_its_documents_alike():
    aims = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.1]])
    loss = objective.step_loss(bce("multi-label", 1.0), 2)
    count = torch.tensor(4)
    whole = loss({"logits": logits}, aims, num_items_in_batch=count)
    parts = sum(
        loss({"logits": logits[i : i + 1]}, aims[i : i + 1], num_items_in_batch=count)
        for i in (0, 1)
    )
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, aims)
    assert_close(parts, whole, 1e-7)
    assert_close(whole, plain, 1e-7)


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(tmp_path):
    """SIGKILL at five random moments, with dropout, checkpoints every few milliseconds."""
    options = {"name": "bert-mini", "dropout": 0.1, "epochs": 40, "patience": 3}
    undisturbed = finished(process({**options, "folder": str(tmp_path / "whole")}))
    generator = random.Random(11)
    folder = tmp_path / "killed"
    killed = 0
    for _ in range(12):
        if killed == 5:
            break
        running = process({**options, "folder": str(folder)})
        deadline = time.monotonic() + 60
        before = _newest(folder)
        while _newest(folder) <= before and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(generator.uniform(0.0, 0.4))
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
            killed += 1
        running.communicate(timeout=30)
    assert finished(process({**options, "folder": str(folder)})) == undisturbed
    assert killed == 5


def _newest(folder):
    found = checkpoint.newest(folder)
    return -1 if found is None else checkpoint.step_of(found)


def test_a_training_that_had_ended_early_is_not_trained_on(tmp_path):
    first = fitted(tmp_path, epochs=30, patience=1)
    again = fitted(tmp_path, epochs=30, patience=1)
    assert again.steps == first.steps
    assert again.best == first.best
    assert_same_weights(weights(again.model), weights(first.model), 0.0)


@pytest.mark.parametrize("epochs", [0.5, 1.5])
def test_a_training_that_had_ended_within_an_epoch_is_not_trained_on(tmp_path, epochs):
    first = fitted(tmp_path, epochs=epochs, schedule="constant")
    again = fitted(tmp_path, epochs=epochs, schedule="constant")
    assert (again.steps, again.tokens, again.best) == (first.steps, first.tokens, first.best)
    for name, part in weights(first.model).items():
        assert torch.equal(weights(again.model)[name], part), name


def test_a_run_folder_that_moved_still_finds_its_best_checkpoint(tmp_path):
    first = fitted(tmp_path / "a", epochs=6)
    (tmp_path / "a").rename(tmp_path / "b")
    again = fitted(tmp_path / "b", epochs=6)
    assert_same_weights(weights(again.model), weights(first.model), 0.0)


def test_a_checkpoint_without_its_mark_does_not_count(tmp_path):
    for step in (3, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").write_text("x")
    checkpoint.mark_complete(tmp_path / "checkpoint-3")
    assert checkpoint.newest(tmp_path).name == "checkpoint-3"
    checkpoint.remove_incomplete(tmp_path)
    assert not (tmp_path / "checkpoint-12").exists()
    assert checkpoint.newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label"])
def test_every_kind_of_task_learns_its_words(tmp_path, kind):
    found = fitted(tmp_path, kind=kind, epochs=12, batch_size=4)
    losses = [record["loss"] for record in found.history if "loss" in record]
    assert losses[-1] < 0.8 * losses[0]
    assert found.tokens > 0


def test_training_cannot_reach_the_test_split(tmp_path):
    model, splits = prepared()
    for wrong in ({"train": "test"}, {"validation": "test"}):
        given = {name: splits[wrong.get(name, name)] for name in ("train", "validation")}
        with pytest.raises(RunError, match=r"training takes the \w+ split here; got 'test'"):
            trainer.fit(
                model, given["train"], given["validation"], SETTINGS, rate=1e-3, folder=tmp_path
            )


def test_early_stopping_keeps_the_best_checkpoint(tmp_path):
    found = fitted(tmp_path, epochs=30, patience=1)
    scores = [record["eval_micro-f1"] for record in found.history if "eval_micro-f1" in record]
    assert len(scores) < 30
    assert found.best == max(scores)


def test_a_loss_that_is_not_finite_ends_training_with_a_sentence(tmp_path):
    model, splits = prepared()
    with pytest.raises(RunError, match="the training loss became"):
        trainer.fit(model, splits["train"], splits["validation"],
                    replace(SETTINGS, max_grad_norm=1e30, warmup=0.0, epochs=12), rate=1e18, folder=tmp_path)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0.0}, "training.epochs must be above 0; got 0.0"),
        ({"batch_size": 0}, "training.batch_size must be above 0"),
        ({"warmup": 1.0}, r"training.warmup must be in 0..1, 1 excluded; got 1.0"),
        ({"learning_rate": -1.0}, "training.learning_rate must be above 0"),
        ({"patience": -1}, "training.patience must be 0 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(changed, message):
    with pytest.raises(SettingsError, match=message):
        check(TrainingSettings(**changed))


def test_the_learning_rate_follows_what_is_trained():
    settings = TrainingSettings()
    small_mamba = settings.small_mamba_learning_rate
    for family in ("bert", "mamba"):
        wanted = {
            ("none", "random"): settings.scratch_learning_rate,
            ("none", "large"): settings.full_learning_rate,
            ("e5-mistral", "large"): settings.lora_learning_rate,
            ("none", "small"): settings.small_learning_rate,
            ("e5-mistral", "small"): settings.small_lora_learning_rate,
        }
        if family == "mamba":
            wanted |= {("none", "small"): small_mamba, ("e5-mistral", "small"): small_mamba}
        found = {given: learning_rate(settings, *given, family) for given in wanted}
        assert found == wanted
    assert learning_rate(replace(settings, learning_rate=1.0), "none", "random", "bert") == 1.0


def test_the_head_of_a_small_backbone_has_a_rate_of_its_own_unless_told_otherwise():
    settings = TrainingSettings()
    small = settings.small_head_learning_rate
    given = replace(settings, learning_rate=1e-3)
    for preset in ("none", "e5-mistral", "head-only"):
        assert head_rate(settings, preset, "small", one_layer=True) == small
        assert head_rate(settings, preset, "small", one_layer=False) is None
        assert head_rate(settings, preset, "large", one_layer=True) is None
        assert head_rate(settings, preset, "random", one_layer=True) is None
        told = replace(given, head_learning_rate=0.5)
        assert head_rate(told, preset, "large", one_layer=False) == 0.5
    assert head_rate(given, "none", "small", one_layer=True) == small
    assert head_rate(given, "head-only", "small", one_layer=True) is None


def test_scores_of_every_kind_lie_in_0_to_1_and_one_label_adds_up():
    logits = torch.tensor([[2.0, -1.0]])
    assert objective.scores(logits, "multi-class").sum().item() == pytest.approx(1.0)
    binary = objective.scores(logits[:, :1], "binary")
    assert binary.shape == (1, 2)
    assert binary.sum().item() == pytest.approx(1.0)
    assert np.isclose(objective.scores(logits, "multi-label")[0, 1].item(), 1 / (1 + np.e))


@pytest.mark.parametrize("sampler", ["oversampling", "ml_ros"])
def test_an_interrupted_training_with_a_sampler_ends_with_the_same_weights(tmp_path, sampler):
    answers = {"loss": "db", "sampler": sampler}
    whole = fitted(tmp_path / "whole", answers=answers, checkpoint_minutes=1e-4)

    def stop(share, message):
        if share > 0.6:
            raise KeyboardInterrupt

    model, splits = prepared(answers=answers)
    given = (model, splits["train"], splits["validation"], SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(*given, rate=1e-3, folder=tmp_path / "cut", progress=stop)
    assert checkpoint.newest(tmp_path / "cut") is not None
    again = fitted(tmp_path / "cut", answers=answers, checkpoint_minutes=1e-4)
    assert again.steps == whole.steps
    assert_same_weights(weights(again.model), weights(whole.model), 0.0)


@pytest.mark.parametrize("sampler", ["oversampling", "class_aware"])
def test_a_sampler_works_with_accumulation(tmp_path, sampler):
    answers = {"loss": "db", "sampler": sampler}
    whole = fitted(tmp_path / "a", answers=answers)
    cut = fitted(tmp_path / "b", answers=answers, batch_size=2, accumulation=8)
    assert whole.steps == cut.steps
    assert_same_weights(weights(cut.model), weights(whole.model), tolerances.STEP_FLOAT32)
    plain = fitted(tmp_path / "d")
    assert plain.tokens != whole.tokens


def test_every_epoch_has_other_documents_the_same_in_every_process():
    drawn = {0: [0, 1, 2, 2], 1: [3, 3, 0, 1]}
    whole = EpochBatches([5, 6, 7, 8], 2, seed=3)
    halves = [EpochBatches([5, 6, 7, 8], 1, processes=2, rank=rank, seed=3) for rank in (0, 1)]
    for batches in (whole, *halves):
        batches.draw_with(lambda epoch: np.array(drawn[epoch]))
    for epoch in (0, 1):
        for batches in (whole, *halves):
            batches.set_epoch(epoch)
        assert sorted(row for step in whole for row in step) == sorted(drawn[epoch])
        together = [a + b for a, b in zip(*halves, strict=True)]
        assert [sorted(step) for step in together] == [sorted(step) for step in whole]


def test_the_head_can_learn_at_a_rate_of_its_own(tmp_path):
    slow = fitted(tmp_path / "a", head_learning_rate=1e-9)
    fast = fitted(tmp_path / "b", head_learning_rate=0.1)
    start, _ = prepared()
    first = weights(start)
    heads = [name for name in first if name.startswith("score")]
    assert heads
    for name in heads:
        assert (weights(slow.model)[name] - first[name]).abs().max() < 1e-6
        assert (weights(fast.model)[name] - first[name]).abs().max() > 1e-3
    others = [name for name in first if name not in heads]
    assert any((weights(slow.model)[n] - first[n]).abs().max() > 1e-5 for n in others)
