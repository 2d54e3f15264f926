"""BERT: the mean of its tokens, dropout on our kernel, and attention that trains fast."""

import copy

import pytest
import torch
from torch import nn
from transformers import AttentionInterface, BertConfig
from transformers import BertForSequenceClassification as Theirs
from transformers.models.bert.modeling_bert import eager_attention_forward

from longdoc.backbones import build as backbones
from longdoc.backbones.bert import BertForSequenceClassification
from longdoc.backbones.bert_attention import NAME, attend
from longdoc.backbones.dropout import FastDropout, use_fast_dropouts
from longdoc.backbones.settings import BackboneSettings
from longdoc.errors import SettingsError
from longdoc.kernels import bfloat16, native_library
from longdoc.tokens import tokenizers
from tests import tolerances
from tests.assertions import assert_close

SHAPE = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 40, "num_labels": 3}  # fmt: skip


def model(pooling, **changes):
    torch.manual_seed(0)
    config = BertConfig(**SHAPE, **changes)
    config.pooling = pooling
    return BertForSequenceClassification(config).eval()


def transformers_own(ours):
    """Give transformers' eager model with the same weights; the two must not share a config."""
    config = copy.deepcopy(ours.config)
    config._attn_implementation = "eager"
    theirs = Theirs(config)
    theirs.load_state_dict(ours.state_dict())
    return theirs


def batch():
    ids = torch.tensor([[1, 5, 6, 2, 0, 0], [1, 7, 8, 9, 3, 2]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    return ids, mask


@torch.no_grad()
def test_the_first_token_gives_transformers_own_logits():
    ours = model("first")
    theirs = transformers_own(ours).eval()
    ids, mask = batch()
    wanted = theirs(ids, attention_mask=mask).logits
    assert_close(ours(ids, attention_mask=mask).logits, wanted, tolerances.MODEL_FLOAT32)
    assert_close(ours.head(ours.vectors(ids, mask)), wanted, tolerances.MODEL_FLOAT32)


@torch.no_grad()
def test_the_mean_leaves_padding_out():
    ours = model("mean")
    ids, mask = batch()
    together = ours(ids, attention_mask=mask).logits
    alone = ours(ids[:1, :4], attention_mask=mask[:1, :4]).logits
    assert_close(together[:1], alone, tolerances.MODEL_FLOAT32)
    hidden = ours.bert(ids[:1, :4]).last_hidden_state
    wanted = ours.classifier(hidden.mean(dim=1))
    assert_close(alone, wanted, tolerances.MODEL_FLOAT32)
    assert ours.bert.pooler is None
    with pytest.raises(ValueError, match="mean pooling computes no loss of its own"):
        ours(ids, attention_mask=mask, labels=torch.zeros(2, 3))


@torch.no_grad()
def test_pooling_is_saved_with_the_weights(tmp_path):
    ids, mask = batch()
    for pooling in ("first", "mean"):
        ours = model(pooling)
        ours.save_pretrained(tmp_path / pooling)
        again = BertForSequenceClassification.from_pretrained(tmp_path / pooling).eval()
        assert again.config.pooling == pooling
        assert torch.equal(
            again(ids, attention_mask=mask).logits, ours(ids, attention_mask=mask).logits
        )


@pytest.mark.parametrize(("tiles", "slow"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("half", [True, False])
def test_attention_is_ours_where_short_documents_train_and_wherever_there_are_tiles(
    tiles, slow, half, monkeypatch
):
    monkeypatch.setattr(native_library, "multiplies_in_tiles", lambda: tiles)
    monkeypatch.setattr(bfloat16, "slow", lambda: slow)
    ours = model("mean", max_position_embeddings=1024)
    used = []
    for training, length in ((True, 512), (True, 513), (False, 512)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            ours.train(training)(torch.ones(1, length, dtype=torch.long))
        used.append(ours.bert.config._attn_implementation)
    long = half and (tiles or (slow and native_library.available()))
    assert used == [NAME, NAME if long else "sdpa", NAME if half and tiles else "sdpa"]


def test_an_attention_that_was_asked_for_stays():
    ours = model("mean", max_position_embeddings=1024)
    ours.set_attn_implementation("eager")
    chosen = BertForSequenceClassification(ours.config)
    chosen(torch.ones(1, 600, dtype=torch.long))
    assert chosen.config._attn_implementation == "eager"


def attended(attention, dtype, mask, autocast=False):
    torch.manual_seed(4)
    rows = torch.randn(3, 2, 37, 3, 8, dtype=torch.float64)  # laid out as projections leave them
    parts = [part.to(dtype).transpose(1, 2).requires_grad_() for part in rows]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found, _ = attention(nn.Module().train(), *parts, mask, scaling=0.3)
    found.double().pow(3).sum().backward()
    return [found, *(part.grad for part in parts)]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    ("dtype", "autocast", "tolerance"),
    [
        (torch.float64, False, tolerances.FLOAT64),
        (torch.float32, False, tolerances.MODEL_FLOAT32),
        (torch.bfloat16, False, tolerances.BFLOAT16),
        (torch.bfloat16, True, tolerances.BFLOAT16),
    ],
)
def test_attention_is_the_eager_one(dtype, autocast, tolerance, padded):
    mask = torch.zeros(2, 1, 37, 37)
    mask[1, :, :, 20:] = torch.finfo(mask.dtype).min
    mask = mask if padded else None
    wanted = attended(eager_attention_forward, torch.float64, mask)
    for ours, theirs in zip(attended(attend, dtype, mask, autocast), wanted, strict=True):
        assert ours.dtype == dtype
        assert_close(ours.double(), theirs, tolerance)


def test_weights_are_dropped_only_while_a_layer_trains():
    layer, (query, key, value) = nn.Module(), torch.randn(3, 2, 3, 37, 8)
    whole, _ = attend(layer.eval(), query, key, value, None, dropout=0.25)
    dropped, _ = attend(layer.train(), query, key, value, None, dropout=0.25)
    assert_close(whole, attend(layer, query, key, value, None)[0], 0.0)
    assert not torch.equal(whole, dropped)


class Asked(nn.Module):
    """Takes what a model's attention is given as its mask."""

    def __init__(self):
        super().__init__()
        self.masks = []

    def attend(self, module, query, key, value, attention_mask, **given):
        self.masks.append(attention_mask)
        return attend(module, query, key, value, attention_mask, **given)


@pytest.mark.parametrize("shape", [None, (2, 6), (2, 1, 6, 6)])
def test_padding_alone_has_a_row_a_document_and_other_masks_are_as_they_were(shape, monkeypatch):
    asked = Asked()
    monkeypatch.setitem(AttentionInterface._global_mapping, NAME, asked.attend)
    ours = model("first", attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    theirs = transformers_own(ours)
    ids, mask = batch()
    lowest = torch.finfo(torch.float32).min
    if shape is None:
        mask = None
    elif len(shape) == 4:
        mask = torch.zeros(shape).masked_fill(torch.ones(6, 6).triu(1).bool(), lowest)
    found, wanted = (each.train()(ids, attention_mask=mask).logits for each in (ours, theirs))
    assert_close(found, wanted, tolerances.MODEL_FLOAT32)
    rows = {None: None, (2, 6): 1, (2, 1, 6, 6): 6}[shape]
    assert [m if m is None else m.shape[2] for m in asked.masks] == [rows, rows]


def test_a_decoder_sees_no_later_token():
    ours = model(
        "first", is_decoder=True, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0
    )
    ids, mask = batch()
    states = [
        ours.train().bert(each, attention_mask=mask, use_cache=False).last_hidden_state
        for each in (ids, torch.cat([ids[:, :3], ids[:, 3:].flip(1)], dim=1))
    ]
    assert_close(states[0][:, :3], states[1][:, :3], tolerances.MODEL_FLOAT32)
    assert not torch.allclose(states[0][:, 3:], states[1][:, 3:], atol=1e-3)


def test_training_equals_transformers_own():
    ours = model("first", attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    theirs = transformers_own(ours)
    ids, mask = batch()
    for each in (ours, theirs):
        each.train()(ids, attention_mask=mask).logits.pow(2).sum().backward()
    assert [each.config._attn_implementation for each in (ours, theirs)] == [NAME, "eager"]
    for (name, part), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert_close(part.grad, other.grad, tolerances.MODEL_FLOAT32, name)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mamba-mini", {"pooling": "mean"}, r"backbone.pooling must be last for mamba-mini; got 'mean'"),
        ("bert-mini", {"pooling": "last"}, r"backbone.pooling must be first or mean for bert-mini"),
        ("mamba-mini", {"attention_dropout": 0.1}, "must be left out for mamba-mini, which has no"),
        ("bert-mini", {"attention_dropout": 1.5}, r"attention_dropout must be in 0..1, 1 excluded"),
    ],
)  # fmt: skip
def test_what_a_family_has_not_is_said(name, changes, message):
    tokenizer = tokenizers.train(["a few words"], 300)
    settings = BackboneSettings(name=name, pretrained=False, **changes)
    with pytest.raises(SettingsError, match=message):
        backbones.build(
            settings, tokenizer, labels=["a", "b"], kind="multi-label", max_tokens=32, seed=0
        )


def test_settings_reach_the_backbone():
    tokenizer = tokenizers.train(["a few words"], 300)
    settings = BackboneSettings(
        name="bert-mini", pretrained=False, pooling="mean", attention_dropout=0.3
    )
    built = backbones.build(
        settings, tokenizer, labels=["a", "b"], kind="multi-label", max_tokens=32, seed=0
    )
    assert built.model.takes_mean
    assert built.model.config.attention_probs_dropout_prob == 0.3
    drops = [module for module in built.model.modules() if isinstance(module, nn.Dropout)]
    assert drops
    assert all(isinstance(module, FastDropout) for module in drops)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dropout_drops_the_same_of_the_gradient(dtype):
    layer = use_fast_dropouts(nn.Sequential(nn.Dropout(0.3)))
    x = torch.ones(200, 50, dtype=dtype, requires_grad=True)
    torch.manual_seed(3)
    first = layer(x)
    first.sum().backward()
    assert torch.equal(first.detach(), x.grad)
    dropped = (first == 0).double().mean().item()
    assert dropped == pytest.approx(0.3, abs=0.02)
    assert torch.allclose(first[first != 0].double(), torch.tensor(1 / 0.7).double(), rtol=1e-2)
    second = layer(x)
    torch.manual_seed(3)
    assert not torch.equal(first, second)
    assert torch.equal(first, layer(x))
    assert torch.equal(layer.eval()(x), x)
