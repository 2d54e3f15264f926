"""Mamba reads a document cut anywhere as it reads it whole."""

import pytest
import torch
from transformers import MambaModel

from longdoc.backbones import MambaForSequenceClassification
from longdoc.backbones import mamba as backbone
from longdoc.backbones.mamba import use_modular_mixers
from tests.assertions import assert_close
from tests.backbones.tiny import mamba, padded


def test_a_continued_segment_goes_back_into_the_one_before():
    model = use_modular_mixers(MambaModel(mamba()).train())
    ids = padded((30,))["input_ids"]
    outcomes = []
    for cut in (0, 20):
        model.zero_grad()
        cache = model(ids[:, :cut], use_cache=True).cache_params if cut else None
        states = model(ids[:, cut:], cache_params=cache, use_cache=True).last_hidden_state
        states[:, 20 - cut :].square().sum().backward()
        outcomes.append([p.grad.clone() for p in model.parameters()])
    for found, wanted in zip(*outcomes, strict=True):
        assert_close(found, wanted, 1e-5)


@pytest.mark.parametrize("length", [65, 128])
@torch.no_grad()
def test_a_document_cut_anywhere_is_the_same_in_bfloat16(length):
    model = use_modular_mixers(MambaModel(mamba()).to(torch.bfloat16).eval())
    ids = padded((200,))["input_ids"]
    whole = model(ids).last_hidden_state
    cache, found = None, []
    for part in ids.split(length, dim=1):
        outputs = model(part, cache_params=cache, use_cache=True)
        cache = outputs.cache_params
        found.append(outputs.last_hidden_state)
    assert torch.equal(torch.cat(found, dim=1), whole)


@pytest.mark.parametrize("kernel", [1, 2, 5])
def test_segments_go_on_whatever_the_convolutions_width(monkeypatch, kernel):
    monkeypatch.setattr(backbone, "SEGMENT", 32)
    config = mamba()
    config.conv_kernel = kernel
    model = MambaForSequenceClassification(config).eval()
    ids = padded((90,))["input_ids"]
    with torch.no_grad():
        in_segments = model(input_ids=ids).logits
    assert_close(in_segments, model(input_ids=ids).logits, 1e-5)
