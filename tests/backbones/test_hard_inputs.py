"""Odd but possible uses of the backbones and of what they stand on."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from longdoc.adapters.lora import add_lora
from longdoc.backbones import MambaForSequenceClassification
from longdoc.backbones.bert import BertForSequenceClassification
from longdoc.backbones.classification import (
    GPTNeoForSequenceClassification,
    LlamaForSequenceClassification,
)
from longdoc.backbones.dropout import FastDropout, use_fast_dropouts
from longdoc.backbones.llama import use_packed_attention
from longdoc.errors import SettingsError
from longdoc.kernels import add_norm, gelu, native_library, rms_norm, use_in_transformers
from longdoc.kernels.dropout import drop
from tests import tolerances
from tests.assertions import assert_close
from tests.backbones import tiny

CLASSIFIERS = tiny.CLASSIFIERS


def bert(**changes):
    torch.manual_seed(0)
    return BertConfig(
        vocab_size=99, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=1024, num_labels=3, **changes,
    )  # fmt: skip


def test_a_gradient_of_a_gradient_goes_through_dropout():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1))
    use_fast_dropouts(network).train()
    x = torch.randn(5, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    dropped = network[1]
    assert isinstance(dropped, FastDropout)
    assert network[0].weight.grad.abs().sum() > 0
    x = torch.randn(50, dtype=torch.float32, requires_grad=True)
    torch.manual_seed(3)
    (once,) = torch.autograd.grad(drop(x, 0.3).square().sum(), x, create_graph=True)
    (twice,) = torch.autograd.grad(once.sum(), x)
    kept = once != 0
    assert_close(twice[kept], torch.full_like(twice[kept], 2 / 0.7**2), tolerances.MODEL_FLOAT32)
    assert not twice[~kept].any()


def test_a_dropout_in_place_stays_torchs_own():
    network = nn.Sequential(nn.Dropout(0.5, inplace=True))
    assert type(use_fast_dropouts(network)[0]) is nn.Dropout


def test_an_input_that_changed_before_the_way_back_is_not_used():
    torch.manual_seed(0)
    model = add_lora(MambaForSequenceClassification(tiny.mamba()), rank=2, dropout=0.0)
    embedded = torch.randn(1, 20, 24)
    loss = model(inputs_embeds=embedded).logits.sum()
    embedded.normal_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_inputs_of_inference_mode_serve_where_weights_are_learnt():
    torch.manual_seed(0)
    model = add_lora(MambaForSequenceClassification(tiny.mamba()), rank=2, dropout=0.0)
    with torch.inference_mode():
        embedded = torch.randn(1, 20, 24)
    model(inputs_embeds=embedded).logits.sum().backward()
    assert any(part.grad is not None for part in model.parameters())


@pytest.mark.parametrize("through_config", [False, True])
def test_llama_gives_the_states_of_every_layer(through_config):
    config = tiny.llama()
    config.output_hidden_states = through_config
    asked = {} if through_config else {"output_hidden_states": True}
    ids = tiny.padded()["input_ids"][1:2]
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(config).eval()
    wanted = theirs(ids, **asked).hidden_states
    ours = use_packed_attention(theirs)(ids, **asked).hidden_states
    assert len(ours) == len(wanted) == 3
    for found, state in zip(ours, wanted, strict=True):
        assert_close(found, state, tolerances.MODEL_FLOAT32)
    assert len(LlamaForSequenceClassification(config)(ids, **asked).hidden_states) == 3


def test_attention_weights_are_given_where_they_are_made():
    model = GPTNeoForSequenceClassification(tiny.neo()).eval()
    given = model(tiny.padded()["input_ids"][:1, :5], output_attentions=True).attentions
    assert [part.shape for part in given] == [(1, 3, 5, 5)] * 2
    model.config.output_attentions = True
    assert [part.shape for part in model(**tiny.padded()).attentions] == [(3, 3, 40, 40)] * 2


def test_a_bert_that_was_told_how_to_attend_does_so():
    model = BertForSequenceClassification(bert())
    model.set_attn_implementation("eager")
    ids = torch.randint(99, (2, 7))
    for training in (True, False):
        model.train(training)
        given = model(ids, output_attentions=True).attentions
        assert [part.shape for part in given] == [(2, 3, 7, 7)] * 2
    assert model.config._attn_implementation == "eager"


def test_checkpointing_outlives_what_is_read_before_the_way_back():
    model = BertForSequenceClassification(bert()).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    loss = model(torch.randint(99, (2, 7))).logits.sum()
    model(torch.randint(99, (1, 700)))
    with torch.no_grad():
        model.eval()(torch.randint(99, (1, 7)))
    loss.backward()
    assert model.bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("training", [True, False])
def test_a_mask_of_true_and_false_is_one_of_zeros_and_minus_infinity(training):
    config = bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    ids = torch.randint(99, (2, 9))
    seen = torch.ones(2, 1, 9, 9, dtype=torch.bool).tril()
    model = BertForSequenceClassification(config).train(training)
    wanted = BertModel(config, add_pooling_layer=False).train(training)
    wanted.load_state_dict(model.bert.state_dict(), strict=False)
    found = model.bert(ids, attention_mask=seen).last_hidden_state
    model(ids, attention_mask=seen)
    again = model.bert(ids, attention_mask=seen).last_hidden_state
    for state in (found, again):
        assert_close(
            state, wanted(ids, attention_mask=seen).last_hidden_state, tolerances.MODEL_FLOAT32
        )


@pytest.mark.parametrize(("classifier", "config"), CLASSIFIERS)
def test_classifiers_take_use_cache_and_one_kind_of_input(classifier, config):
    model = classifier(config()).eval()
    batch = tiny.padded()
    wanted = model(**batch).logits
    for asked in (True, False):
        assert_close(model(**batch, use_cache=asked).logits, wanted, tolerances.MODEL_FLOAT32)
        assert model(batch["input_ids"][1:2], use_cache=asked).logits.shape == (1, 3)
    for given in ({}, {"input_ids": batch["input_ids"], "inputs_embeds": torch.zeros(3, 40, 24)}):
        with pytest.raises(ValueError, match="give either input_ids or inputs_embeds"):
            model(**given)


def test_a_mean_of_tokens_needs_no_record():
    config = bert(pooling="mean")
    model = BertForSequenceClassification(config).eval()
    ids = torch.randint(99, (2, 7))
    wanted = model(ids).logits
    config.return_dict = False
    assert_close(model(ids).logits, wanted, tolerances.MODEL_FLOAT32)


def test_what_lora_cannot_do_is_said():
    config = RobertaConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    with pytest.raises(
        SettingsError, match="which modules of a 'roberta' LoRA goes to must be said"
    ):
        add_lora(RobertaForSequenceClassification(config))
    wrapped = add_lora(RobertaForSequenceClassification(config), target_modules=["query"])
    trained = {name for name, part in wrapped.named_parameters() if part.requires_grad}
    heads = {name for name in trained if "classifier" in name}
    assert len(heads) == 4
    assert all("lora_" in name for name in trained - heads)
    with pytest.raises(SettingsError, match="must be lists of ends of names; got one text"):
        add_lora(MambaForSequenceClassification(tiny.mamba()), target_modules="in_proj")


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_norms_have_tangents_and_take_no_whole_numbers():
    x, weight, tangent = torch.randn(3, 5), torch.rand(5), torch.randn(3, 5)
    _, found = torch.func.jvp(lambda x: rms_norm(x, weight, 1e-5), (x,), (tangent,))
    _, wanted = torch.func.jvp(
        lambda x: nn.functional.rms_norm(x, (5,), weight, 1e-5), (x,), (tangent,)
    )
    assert_close(found, wanted, tolerances.MODEL_FLOAT32)
    with pytest.raises(ValueError, match="x must be of a floating-point type"):
        rms_norm(torch.ones(3, 5, dtype=torch.long), weight, 1e-5)


def test_kernels_stay_on_the_cpu_under_another_default_device():
    x = torch.randn(4, 6)
    ones, zeros = torch.ones(6), torch.zeros(6)
    with torch.device("meta"):
        assert drop(x, 0.5).device.type == "cpu"
        assert add_norm(x, x, ones, zeros, 1e-5, 0.5).device.type == "cpu"


def test_tensors_without_numbers_of_their_own_are_refused():
    if not native_library.available():
        pytest.skip("the compiled kernels are not there")
    with pytest.raises(RuntimeError, match="a view without numbers of its own"):
        gelu(torch._efficientzerotensor((4,)))


def test_ours_stays_in_transformers_until_all_who_asked_put_it_back():
    from transformers.models.mamba import modeling_mamba

    theirs = modeling_mamba.mamba_selective_scan
    first, second = use_in_transformers(), use_in_transformers()
    first.undo()
    first.undo()
    assert modeling_mamba.mamba_selective_scan is not theirs
    second.undo()
    assert modeling_mamba.mamba_selective_scan is theirs


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_kernel_that_runs_first_in_a_forked_child_ends():
    script = (
        "import os, torch, longdoc.kernels as k\n"
        "torch.set_num_threads(2)\n"
        "x = torch.randn(400, 400); (x @ x).sum(); torch.relu(torch.randn(2_000_000))\n"
        "z = torch.zeros(1_000_000)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    k.gelu(z); os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=120, capture_output=True, text=True, check=True,
        env=environment,
    )  # fmt: skip
    assert done.stdout == "7\n"
