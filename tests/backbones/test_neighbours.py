"""Heads that begin by looking at a neighbour, and what is left as it was."""

import math

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, GPTNeoConfig, GPTNeoForCausalLM

from longdoc.backbones import neighbours
from longdoc.backbones.neighbours import frequencies, look_at_neighbours


def gpt_neo(width=160, heads=5):
    torch.manual_seed(0)
    kinds = [[["global", "local"], 1]]
    config = GPTNeoConfig(
        vocab_size=300, hidden_size=width, num_layers=2, num_heads=heads, attention_types=kinds
    )
    return GPTNeoForCausalLM(config).eval()


def bert(width=160, heads=5):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=300, hidden_size=width, num_hidden_layers=2, num_attention_heads=heads,
        initializer_range=width**-0.5,
    )  # fmt: skip
    return BertForMaskedLM(config).eval()


@torch.no_grad()
def attention(model, tokens):
    """What each head of the first layer looks at, by transformers' own code: (heads, l, l)."""
    model.set_attn_implementation("eager")
    ids = torch.randint(5, 300, (1, tokens), generator=torch.Generator().manual_seed(1))
    return model(input_ids=ids, output_attentions=True).attentions[0][0]


@pytest.mark.parametrize(("make", "offsets"), [(gpt_neo, (-1, -2, -3)), (bert, (-1, 1, -2, 2))])
@pytest.mark.parametrize(("width", "heads"), [(160, 5), (192, 6), (768, 12)])
def test_heads_begin_by_looking_at_their_neighbour(make, offsets, width, heads):
    model = make(width, heads)
    plain = attention(model, 500)
    look_at_neighbours(model)
    found = attention(model, 500)
    for head, offset in enumerate(offsets):
        assert found[head].diagonal(offset).mean() > 0.8
        assert plain[head].diagonal(offset).mean() < 0.2
    for head in range(len(offsets), heads):
        for offset in (-3, -2, -1, 0, 1, 2, 3):
            assert found[head].diagonal(offset).mean() < 0.2


@pytest.mark.parametrize("make", [gpt_neo, bert])
def test_only_what_it_says_is_changed(make):
    model, plain = make(), make().state_dict()
    look_at_neighbours(model)
    changed = {name for name, value in model.state_dict().items() if not value.equal(plain[name])}
    places = neighbours.PLACES[model.config.model_type]
    outputs = {name for name in changed if name.startswith(("lm_head", "cls.predictions.decoder"))}
    named = (places.tokens, places.positions, places.query, places.key)
    assert changed - outputs == {f"{name}.weight" for name in named}
    tokens = model.get_submodule(places.tokens).weight
    assert tokens[:, 32:].equal(plain[f"{places.tokens}.weight"][:, 32:])


def test_one_head_stays_as_it_was():
    for heads in (1, 2):
        model, plain = gpt_neo(16, heads), gpt_neo(16, heads)
        look_at_neighbours(model)
        name = "transformer.h.0.attn.attention.q_proj"
        mine, theirs = model.get_submodule(name).weight, plain.get_submodule(name).weight
        assert mine[-16 // heads :].equal(theirs[-16 // heads :])
        assert mine.equal(theirs) is (heads == 1)


@pytest.mark.parametrize("pairs", [1, 2, 5, 8, 16])
def test_no_pair_comes_round_within_two_positions(pairs):
    turns = frequencies(pairs)
    assert turns.shape == (pairs,)
    assert turns.min() > 0
    assert turns.max() < math.pi
    assert len(set(turns.tolist())) == pairs
