"""Llama without padding, against transformers' own."""

import copy
import itertools

import pytest
import torch
from transformers import LlamaModel
from transformers.models.llama import modeling_llama

from longdoc.backbones.classification import LlamaForSequenceClassification
from longdoc.backbones.llama import use_packed_attention
from tests import tolerances
from tests.assertions import assert_close
from tests.backbones.tiny import gradients_of, llama, padded


def packed(*lengths, seed=1):
    """Token numbers of documents one after the other, and where they begin."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.tensor([0, *lengths]).cumsum(0)
    return torch.randint(1, 99, (1, int(starts[-1])), generator=generator), starts


def test_llama_reads_documents_one_after_the_other_as_transformers_reads_each():
    config = llama()
    config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0}
    config.max_position_embeddings = 16  # positions change with the longest document
    plain = LlamaModel(config).eval()
    ours = use_packed_attention(copy.deepcopy(plain))
    ids, starts = packed(1, 33, 33)
    with torch.no_grad():
        found = ours(input_ids=ids, attention_mask=starts).last_hidden_state
        for begin, end in itertools.pairwise(starts.tolist()):
            if end - begin > 1:
                wanted = plain(input_ids=ids[:, begin:end]).last_hidden_state
                assert_close(found[:, begin:end], wanted, 1e-5)
        # A document of one token has no position to turn by.
        assert_close(found[:, :1], plain(input_ids=ids[:, :1]).last_hidden_state, 1e-5)


def test_llama_without_padding_makes_no_mask(monkeypatch):
    model = LlamaForSequenceClassification(llama()).train()
    monkeypatch.setattr(modeling_llama, "create_causal_mask", None)  # would raise if called
    model(**padded(), labels=torch.tensor([0, 2, 1])).loss.backward()
    with pytest.raises(TypeError):
        model(input_ids=padded()["input_ids"])


@pytest.mark.parametrize("tokens", [0, 10_000])
def test_recomputing_llamas_layers_changes_no_gradient_whatever_is_read_meanwhile(tokens):
    model, inputs = LlamaForSequenceClassification(llama()).train(), padded()
    labels = torch.tensor([0, 2, 1])
    wanted = gradients_of(model, inputs, labels)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.zero_grad()
    loss = model(**inputs, labels=labels).loss
    if tokens:
        with torch.no_grad():
            model(input_ids=inputs["input_ids"].flip(1))
    loss.backward()
    for name, part in model.named_parameters():
        assert_close(part.grad, wanted[name], 1e-6, name)


def test_llama_without_padding_says_under_autocast_what_it_says_with_it():
    model = LlamaForSequenceClassification(llama()).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(**padded()).logits
        model.packs_documents = False
        wanted = model(**padded()).logits
    assert_close(found.float(), wanted.float(), tolerances.BFLOAT16)
    with torch.no_grad():
        assert not torch.equal(model(**padded()).logits, wanted)


def test_documents_one_after_the_other_have_no_attention_dropout():
    config = llama()
    config.attention_dropout = 0.5
    model = LlamaForSequenceClassification(config).train()
    assert model(**padded()).logits.shape == (3, 3)  # with padding, by transformers' own way
    ids, starts = packed(4, 5)
    with pytest.raises(ValueError, match="have no attention dropout; give them as rows"):
        model.model(input_ids=ids, attention_mask=starts)
    with pytest.raises(ValueError, match="starts must rise from 0 to 9"):
        model.eval().model(input_ids=ids, attention_mask=starts[:-1])
