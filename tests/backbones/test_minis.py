"""The pretrained weights that come with longdoc: what their cards promise is so."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from longdoc.backbones import build
from longdoc.backbones.catalog import BACKBONES
from longdoc.pretraining import card as cards
from tests.backbones.letters import assert_predicts_again, trained_on_letters

MINIS = ("mamba-mini", "gpt-neo-mini", "bert-mini")
LARGEST = 10_000_000
LAW = (
    "Having regard to the Treaty establishing the European Community, and in particular Article 37 "
    "thereof, having regard to the proposal from the Commission, whereas the Member States shall "
    "bring into force the laws, regulations and administrative provisions necessary to comply with "
    "this Directive."
)


def folder(name):
    return build.shipped_folder(BACKBONES[name])


def record(name):
    return json.loads((folder(name) / "pretraining.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MINIS)
def test_the_card_is_what_its_record_says(name):
    about = record(name)
    text = (folder(name) / "README.md").read_text(encoding="utf-8")
    assert text == cards.render(BACKBONES[name], about)
    assert about["sha256"] == BACKBONES[name].checksum
    assert about["bytes"] <= LARGEST
    assert about["dtype"] == "bfloat16"
    assert about["tokens"] >= 20_000_000
    assert not about["commit"].endswith("+")
    assert set(about["settings"]["texts"]["sources"]) == {"eurlex57k", "speeches", "python-imports"}
    assert set(about["measured"]) == {
        "eurlex57k", "speeches", "python-imports", "reuters-21578", "echr-acl2019",
    }  # fmt: skip


def test_the_minis_match():
    tokenizers = {(folder(name) / "tokenizer.json").read_bytes() for name in MINIS}
    assert len(tokenizers) == 1
    sizes = [record(name)["parameters"] for name in MINIS]
    assert max(sizes) / min(sizes) < 1.1
    tokens = [record(name)["tokens"] for name in MINIS]
    assert max(tokens) / min(tokens) < 1.001  # cut into pieces of 512 and 2,048 tokens


@pytest.mark.parametrize("name", MINIS)
def test_every_measured_set_is_better_than_a_unigram(name):
    for found in record(name)["measured"].values():
        assert found["perplexity"] < found["unigram"] / 2


@pytest.mark.parametrize("name", MINIS)
def test_every_measured_set_is_better_than_a_trigram_model(name):
    for found in record(name)["measured"].values():
        assert found["perplexity"] < found["ngrams"]["3"]


@pytest.mark.parametrize("name", MINIS)
@torch.no_grad()
def test_transformers_own_classes_predict_law_with_them(name):
    place = folder(name)
    tokenizer = AutoTokenizer.from_pretrained(place)
    ids = tokenizer(LAW, return_tensors="pt")["input_ids"]
    if name == "bert-mini":
        model = AutoModelForMaskedLM.from_pretrained(place, dtype=torch.float32).eval()
        hidden = ids.clone()
        hidden[:, 5::7] = tokenizer.mask_token_id
        labels = torch.where(hidden == tokenizer.mask_token_id, ids, -100)
        loss = float(model(input_ids=hidden, labels=labels).loss)
    else:
        model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
        loss = float(model(input_ids=ids, labels=ids).loss)
    assert loss < 4  # a unigram model has 6.6 on laws


@pytest.mark.slow
@pytest.mark.parametrize("name", MINIS)
def test_training_starts_from_the_weights_and_prediction_from_the_run_alone(name, tmp_path):
    run = trained_on_letters(name, tmp_path)
    notes = run.environment["notes"]
    assert not notes["from_random_weights"]
    assert notes["adapter"] == "none"
    training = run.settings.training
    mamba = name == "mamba-mini"
    wanted = training.small_mamba_learning_rate if mamba else training.small_learning_rate
    assert notes["learning_rate"] == wanted
    assert notes["head_learning_rate"] == training.small_head_learning_rate
    assert_predicts_again(run)
