"""What a folder of a checkpoint must have, and what is said where it has not."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    ByT5Tokenizer,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GPTNeoForSequenceClassification,
    MambaConfig,
    MambaForCausalLM,
)

from longdoc.backbones import build as building
from longdoc.backbones.settings import BackboneSettings
from longdoc.errors import DataError, SettingsError
from longdoc.pretraining import models
from longdoc.tokens import tokenizers

TEXTS = [f"document {number} says what word{number} means to a court" for number in range(60)]
LABELS = ("repair", "noise")
SMALL = {"hidden_size": 16, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "intermediate_size": 32}
NEO = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 64,
       "attention_types": [[["global", "local"], 1]], "window_size": 8}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.train(TEXTS, 300)


@pytest.fixture
def folder(tmp_path, tokenizer):
    """Save a model of a family beside its tokenizer."""

    def save(family):
        size = len(tokenizer)
        if family == "bert":
            model = BertForMaskedLM(BertConfig(vocab_size=size, **SMALL, **HEADS))
        elif family == "gpt_neo":
            model = GPTNeoForCausalLM(GPTNeoConfig(vocab_size=size, **NEO))
        else:
            model = MambaForCausalLM(MambaConfig(vocab_size=size, state_size=4, **SMALL))
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return tmp_path

    return save


def classifier(folder, seed=0, **settings):
    chosen = BackboneSettings(name=str(folder), **settings)
    card = building.resolve(chosen)
    tokenizer = building.own_tokenizer(card, chosen)
    return building.build(
        chosen, tokenizer, labels=LABELS, kind="multi-label", max_tokens=32, seed=seed
    ).model


def changed(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def configured(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("family", ["bert", "gpt_neo", "mamba"])
def test_every_tensor_of_the_backbone_is_the_checkpoints(folder, family):
    place = folder(family)
    kept = load_file(place / "model.safetensors")
    made = classifier(place).state_dict()
    for name, value in kept.items():
        if name in made:
            assert torch.equal(made[name], value), name
    assert {name for name in made if name not in kept} <= {
        "score.weight", "classifier.weight", "classifier.bias",
    }  # fmt: skip


@pytest.mark.parametrize("family", ["bert", "gpt_neo", "mamba"])
@pytest.mark.parametrize("fault", ["prefix", "layers", "family"])
def test_weights_that_would_be_random_are_refused(folder, family, fault):
    place = folder(family)
    if fault == "prefix":
        changed(place, lambda kept: {f"module.{name}": value for name, value in kept.items()})
    elif fault == "layers":
        if family == "gpt_neo":
            kinds = {"attention_types": [[["global", "local"], 2]]}
            configured(place, num_layers=4, attention_layers=["global", "local"] * 2, **kinds)
        else:
            configured(place, num_hidden_layers=4)
    else:
        changed(place, lambda kept: {f"other.{n}": torch.zeros(2) for n in range(len(kept))})
    with pytest.raises(DataError, match=r"its weights lack \d+ of the \d+ tensors of a .* random"):
        classifier(place)
    chosen = BackboneSettings(name=str(place))
    card = building.resolve(chosen)
    with pytest.raises(DataError, match="its weights lack"):
        models.make(card, chosen, building.own_tokenizer(card, chosen), 0)


def test_a_bert_without_a_pooler_is_read_by_the_mean(folder):
    place = folder("bert")
    assert classifier(place).config.pooling == "mean"
    assert classifier(place, pooling="first").config.pooling == "first"


def test_a_head_of_other_labels_starts_anew(folder, tokenizer):
    place = folder("gpt_neo")
    plain = classifier(place)
    backbone = load_file(place / "model.safetensors")
    for labels in (2, 5):
        config = GPTNeoConfig(vocab_size=len(tokenizer), num_labels=labels, **NEO)
        other = GPTNeoForSequenceClassification(config)
        other.load_state_dict(backbone, strict=False)
        other.save_pretrained(place)
        first, again, second = (classifier(place, seed).score.weight for seed in (0, 0, 1))
        assert first.shape == (2, 16)
        assert torch.equal(first, again)
        assert not torch.equal(first, second)
        assert not torch.equal(first, other.score.weight[:2])
        assert first.std().item() == pytest.approx(plain.score.weight.std().item(), rel=0.5)


@pytest.mark.parametrize("family", ["bert", "gpt_neo", "mamba"])
def test_a_folder_without_a_tokenizer_is_refused(folder, family):
    place = folder(family)
    for file in place.glob("*token*"):
        file.unlink()
    with pytest.raises(DataError, match="has no tokenizer"):
        classifier(place)


@pytest.mark.parametrize("family", ["bert", "gpt_neo"])
def test_a_padding_token_without_a_vector_is_replaced(folder, tokenizer, family):
    place = folder(family)
    added = AutoTokenizer.from_pretrained(place)
    added.add_special_tokens({"pad_token": "[NEW PAD]"})
    added.save_pretrained(place)
    chosen = BackboneSettings(name=str(place))
    own = building.own_tokenizer(building.resolve(chosen), chosen)
    assert own.pad_token_id < len(tokenizer)
    assert classifier(place).config.pad_token_id == own.pad_token_id


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("truncated", DataError, "weights cannot be read from this folder: SafetensorError"),
        ("bin", DataError, r"it has \.bin files alone"),
        ("none", DataError, "weights cannot be read from this folder"),
        ("config", SettingsError, r"its config\.json cannot be read"),
        ("size", DataError, r"other sizes than config\.json says for \d+ of"),
        ("tokenizer", DataError, "a tokenizer cannot be read from this folder"),
    ],
)
def test_a_damaged_folder_gives_one_sentence(folder, fault, error, words):
    place = folder("gpt_neo")
    file = place / "model.safetensors"
    if fault == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif fault == "bin":
        file.rename(place / "pytorch_model.bin")
    elif fault == "none":
        file.unlink()
    elif fault == "config":
        (place / "config.json").write_text('{"model_type": ')
    elif fault == "size":
        configured(place, vocab_size=1000)
    else:
        (place / "tokenizer.json").write_text("{}")
    with pytest.raises(error, match=words) as caught:
        classifier(place)
    assert "\n" not in str(caught.value)
    assert str(place) in str(caught.value)


def test_pretraining_goes_on_without_dropout_between_packed_documents(folder):
    place = folder("gpt_neo")
    configured(place, attention_dropout=0.1)
    chosen = BackboneSettings(name=str(place))
    card = building.resolve(chosen)
    tokenizer = building.own_tokenizer(card, chosen)
    assert models.make(card, chosen, tokenizer, 0).config.attention_dropout == 0
    wanted = BackboneSettings(name=str(place), attention_dropout=0.1)
    with pytest.raises(SettingsError, match=r"backbone\.attention_dropout must be left out"):
        models.make(card, wanted, tokenizer, 0)


def test_a_tokenizer_of_bytes_has_no_file_of_words(tmp_path):
    MambaForCausalLM(MambaConfig(vocab_size=384, state_size=4, **SMALL)).save_pretrained(tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)
    chosen = BackboneSettings(name=str(tmp_path))
    assert len(building.own_tokenizer(building.resolve(chosen), chosen)) == 384
