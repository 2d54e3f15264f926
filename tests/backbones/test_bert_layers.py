"""BERT's layers on our kernels: the same function, and everything that may watch them."""

import copy

import pytest
import torch
from torch import nn
from transformers import BertConfig
from transformers import BertForSequenceClassification as Theirs
from transformers.models.bert.modeling_bert import BertOutput

from longdoc.backbones.activations import FastGelu
from longdoc.backbones.bert import BertForSequenceClassification
from longdoc.backbones.bert_layers import FastBertOutput, FastBertSelfOutput, use_fast_layers
from tests import tolerances
from tests.assertions import assert_close

SHAPE = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 40, "num_labels": 3}  # fmt: skip


def model(**changes):
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SHAPE, **changes))


def halves(ours):
    return [
        part for part in ours.modules() if isinstance(part, (FastBertOutput, FastBertSelfOutput))
    ]


def logits(of, training=True):
    torch.manual_seed(1)
    ids = torch.tensor([[1, 5, 6, 2, 0, 0], [1, 7, 8, 9, 3, 2]])
    return of.train(training)(ids, attention_mask=(ids > 0).long()).logits


def test_every_layer_runs_on_them_and_names_and_weights_are_transformers_own():
    ours = model()
    assert len(halves(ours)) == 4
    assert [type(each.intermediate.intermediate_act_fn) for each in ours.bert.encoder.layer] == [
        FastGelu, FastGelu,
    ]  # fmt: skip
    theirs = Theirs(copy.deepcopy(ours.config))
    theirs.load_state_dict(ours.state_dict())
    assert_close(logits(ours, training=False), logits(theirs, training=False), 1e-5)
    assert isinstance(halves(ours)[1], BertOutput)


@pytest.mark.parametrize("act", ["relu", "gelu_new"])
def test_other_activations_stay(act):
    ours = model(hidden_act=act)
    kinds = {type(each.intermediate.intermediate_act_fn) for each in ours.bert.encoder.layer}
    assert FastGelu not in kinds


def test_while_it_trains_it_drops_as_many_and_the_same_with_checkpointing():
    ours = model(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.0)
    grads = []
    for checkpointing in (False, True):
        ours.zero_grad()
        if checkpointing:
            ours.gradient_checkpointing_enable({"use_reentrant": False})
        logits(ours).pow(2).sum().backward()
        grads.append([part.grad.clone() for part in ours.parameters()])
    for one, other in zip(*grads, strict=True):
        assert_close(one, other, tolerances.MODEL_FLOAT32)
    half = halves(ours)[0].train()
    torch.manual_seed(0)
    made = torch.ones(64, 8, 24)
    with torch.no_grad():
        half.dense.weight.copy_(torch.eye(24))
        half.dense.bias.zero_()
        half.LayerNorm.weight.fill_(1)
        half.LayerNorm.bias.zero_()
        found = half(made, torch.zeros_like(made))
    assert (found < 0).float().mean().item() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("part", ["LayerNorm", "dropout"])
def test_a_hook_sees_what_passes_through(part):
    ours = model()
    wanted = logits(ours, training=False)
    seen = []
    for half in halves(ours):
        getattr(half, part).register_forward_hook(lambda *given: seen.append(given[2].shape))
    assert_close(logits(ours, training=False), wanted, tolerances.MODEL_FLOAT32)
    assert seen == [(2, 6, 24)] * 4


def test_a_part_that_something_took_the_place_of_is_called():
    class Doubled(nn.LayerNorm):
        def forward(self, input):
            return 2 * super().forward(input)

    ours = model()
    half = halves(ours)[0].eval()
    made, residual = torch.randn(2, 5, 24), torch.randn(2, 5, 24)
    before = half(made, residual)
    half.LayerNorm.__class__ = Doubled
    assert_close(half(made, residual), 2 * before, tolerances.MODEL_FLOAT32)


def test_a_model_of_another_kind_is_left_alone():
    other = nn.Sequential(nn.Linear(3, 3), nn.GELU())
    assert [type(part) for part in use_fast_layers(other)] == [nn.Linear, nn.GELU]
