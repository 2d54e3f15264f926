"""Steps of tokens: what is read and predicted, and what a loss over it is."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, PreTrainedTokenizerFast

from longdoc.backbones import bert_attention, build
from longdoc.backbones.settings import BackboneSettings
from longdoc.pretraining import batches, models, ngram, objective
from longdoc.pretraining.batches import IGNORED, Marks, Pieces
from longdoc.pretraining.stream import Stream
from longdoc.tokens import tokenizers
from tests import tolerances
from tests.assertions import assert_close

DOCUMENTS_PIECES_ROOM = (
    st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(2, 17), st.integers(8, 60),
)  # fmt: skip
MARKS = Marks(pad=0, vocabulary=400, cls=1, sep=2, mask=3)


def stream(lengths, splits=None, sources=None):
    """A stream whose tokens are all different, so that each can be found again."""
    total = sum(lengths)
    zeros = np.zeros(len(lengths), np.int64)
    return Stream(
        np.arange(10, 10 + total, dtype=np.uint16),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        zeros if sources is None else np.array(sources),
        zeros if splits is None else np.array(splits),
        zeros,
        (0,),
    )


@given(*DOCUMENTS_PIECES_ROOM)
@settings(deadline=None, derandomize=True)
def test_every_token_but_a_documents_first_is_predicted_once(lengths, longest, room):
    tokens = stream(lengths)
    pieces = batches.cut(tokens, np.arange(len(lengths)), longest, causal=True)
    steps = batches.NextToken(tokens, pieces, room)
    predicted = [steps[n]["labels"].flatten() for n in range(len(steps))]
    wanted = set(tokens.tokens.tolist()) - {int(tokens.tokens[s]) for s in tokens.starts[:-1]}
    assert sorted(torch.cat(predicted).tolist() if predicted else []) == sorted(wanted)
    for n in range(len(steps)):
        step = steps[n]
        starts = step["attention_mask"]
        assert starts[-1] == step["input_ids"].shape[1]
        assert starts.diff().max() <= longest
        for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            ids, labels = step["input_ids"][0, a:b], step["labels"][0, a:b]
            # What is predicted is what stands behind, in the same document.
            assert torch.equal(labels, ids + 1)
            first = np.searchsorted(tokens.starts, int(ids[0]) - 10, "right")
            assert np.searchsorted(tokens.starts, int(labels[-1]) - 10, "right") == first


@given(*DOCUMENTS_PIECES_ROOM)
@settings(deadline=None, derandomize=True)
def test_masked_pieces_hold_every_token_once(lengths, longest, room):
    tokens = stream(lengths)
    pieces = batches.cut(tokens, np.arange(len(lengths)), longest, causal=False)
    marks = Marks(pad=0, vocabulary=3000, cls=1, sep=2, mask=3)
    steps = batches.MaskedToken(tokens, pieces, room, marks, share=0.15, seed=0)
    seen = []
    for n in range(len(steps)):
        step = steps[n]
        inside = (step["attention_mask"] == 1) & (step["input_ids"] > 2)
        seen += torch.where(step["labels"] != IGNORED, step["labels"], step["input_ids"])[
            inside
        ].tolist()
        assert ((step["labels"] != IGNORED).sum(1) >= 1).all()
        assert (step["input_ids"][:, 0] == 1).all()
    assert sorted(seen) == tokens.tokens.tolist()


def test_hidden_tokens_have_the_shares_of_the_paper():
    ids = np.full(200_000, 7)
    shown, aims = batches.hide(ids, MARKS, 0.15, np.random.default_rng(0))
    hidden = aims != IGNORED
    # Four standard deviations of the shares of 30,000 tokens are 0.009, of 200,000 0.003.
    assert abs(hidden.mean() - 0.15) < 0.005
    assert abs((shown[hidden] == 3).mean() - 0.8) < 0.01
    # One in 400 of the replaced tokens is the same by chance.
    assert abs((shown[hidden] == 7).mean() - 0.1) < 0.01
    assert (shown[~hidden] == 7).all()


def test_masks_are_drawn_by_step_and_seed_alone():
    tokens = stream([40] * 6)
    pieces = batches.cut(tokens, np.arange(6), 30, causal=False)
    made = [
        batches.MaskedToken(tokens, pieces, 64, MARKS, share=0.3, seed=seed)[1]["input_ids"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(made[0], made[1])
    assert made[0].shape != made[2].shape or not torch.equal(made[0], made[2])


def test_passes_read_each_source_as_often_as_asked():
    tokens = stream([10] * 300, sources=[0] * 100 + [1] * 200)
    drawn = batches.drawn(tokens, (2.0, 0.25), np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=300)
    assert (counts[:100] == 2).all()
    assert counts[100:].max() == 1
    assert abs(counts[100:].sum() - 50) <= 1


def test_nothing_is_drawn_from_held_out_documents():
    tokens = stream([10] * 30, splits=[0, 1, 2] * 10)
    assert (batches.drawn(tokens, (3.0,), np.random.default_rng(0)) % 3 == 0).all()


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 700])
@pytest.mark.parametrize("biased", [False, True])
def test_the_loss_is_torchs_with_all_gradients(rows, biased):
    generator = torch.Generator().manual_seed(rows)

    def drawn(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    hidden, weight, bias = drawn(rows, 12), drawn(31, 12), drawn(31) if biased else None
    targets = torch.randint(31, (rows,), generator=generator)
    parts = [p for p in (hidden, weight, bias) if p is not None]
    wanted = torch.nn.functional.cross_entropy(
        torch.nn.functional.linear(hidden, weight, bias), targets
    )
    found = objective.linear_cross_entropy(hidden, weight, targets, bias)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    grads = torch.autograd.grad(3 * found, parts)
    for mine, theirs in zip(grads, torch.autograd.grad(3 * wanted, parts), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_the_loss_stays_finite_for_enormous_logits_in_bfloat16():
    hidden = torch.full((300, 8), 60.0, requires_grad=True)
    weight = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * 60
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective.linear_cross_entropy(
            hidden, weight.requires_grad_(), torch.zeros(300).long()
        )
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(hidden.grad).all()
    assert torch.isfinite(weight.grad).all()


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no token to predict"):
        objective.linear_cross_entropy(torch.zeros(0, 3), torch.zeros(4, 3), torch.zeros(0).long())


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    text = Path(__file__).read_text(encoding="utf-8")
    return tokenizers.train([text], 400)


def language_model(name, tokenizer):
    if name == "llama":
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=24, intermediate_size=40, num_hidden_layers=2,
            num_attention_heads=6, num_key_value_heads=2, initializer_range=0.2, pad_token_id=0,
        )  # fmt: skip
        return models.prepared(models.MODELS[name](config).eval())
    settings = BackboneSettings(name=name, pretrained=False)
    return models.make(build.resolve(settings), settings, tokenizer, 0).eval()


@pytest.mark.parametrize("name", ["mamba-mini", "gpt-neo-mini", "llama"])
@torch.no_grad()
def test_packed_pieces_know_nothing_of_each_other(name, tokenizer):
    model = language_model(name, tokenizer)
    lengths = [3, 90, 41]
    tokens = stream(lengths)
    alone, sizes = [], []
    for first, size in zip(tokens.starts[:-1], lengths, strict=True):
        one = batches.NextToken(tokens, Pieces(np.array([first]), np.array([size])), 999)[0]
        alone.append(float(model(**one).loss) * (size - 1))
        sizes.append(size - 1)
    pieces = batches.cut(tokens, np.arange(3), 999, causal=True)
    together = float(model(**batches.NextToken(tokens, pieces, 999)[0]).loss)
    assert together == pytest.approx(sum(alone) / sum(sizes), rel=1e-5)


@torch.no_grad()
def test_a_language_model_gives_transformers_own_loss(tokenizer):
    settings = BackboneSettings(name="bert-mini", pretrained=False)
    model = models.make(build.resolve(settings), settings, tokenizer, 0).eval()
    tokens = stream([60, 31, 44])
    pieces = batches.cut(tokens, np.arange(3), 40, causal=False)
    step = batches.MaskedToken(tokens, pieces, 200, MARKS, share=0.3, seed=0)[0]
    plain = models.PLAIN["bert"](model.config).eval()
    plain.load_state_dict(model.state_dict())
    assert float(model(**step).loss) == pytest.approx(float(plain(**step).loss), rel=1e-5)


def test_bert_trains_on_our_attention_to_transformers_own_gradients(tokenizer):
    settings = BackboneSettings(name="bert-mini", pretrained=False, attention_dropout=0.0)
    model = models.make(build.resolve(settings), settings, tokenizer, 0).train()
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    plain = models.PLAIN["bert"](config).train()
    plain.load_state_dict(model.state_dict())
    for module in (*model.modules(), *plain.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ids = torch.randint(5, 300, (2, 40))
    mask, labels = torch.ones_like(ids), torch.full_like(ids, IGNORED)
    mask[1, 30:] = 0
    labels[:, ::7] = ids[:, ::7]
    for each in (model, plain):
        each(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
    assert model.config._attn_implementation == bert_attention.NAME
    for (name, part), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert_close(part.grad, other.grad, tolerances.MODEL_FLOAT32, name)


@pytest.mark.parametrize("name", ["gpt-neo-mini", "bert-mini"])
def test_only_random_weights_begin_with_neighbours(name, tokenizer, monkeypatch):
    begun = []
    monkeypatch.setattr(models, "look_at_neighbours", begun.append)
    for pretrained in (False, True):
        settings = BackboneSettings(name=name, pretrained=pretrained)
        card = build.resolve(settings)
        given = tokenizer if not pretrained else build.load_tokenizer(card, settings, dict)
        models.make(card, settings, given, 0)
        assert len(begun) == 1


@pytest.mark.parametrize("order", [2, 3, 4])
def test_ngram_probabilities_sum_to_one_behind_any_context(order):
    generator = np.random.default_rng(0)
    documents = [generator.integers(0, 7, size) for size in (1, 2, 30, 55)]
    model = ngram.KneserNey(documents, 8, order)
    for context in ([3], [0, 1], [5, 5, 5], [7, 7, 7], documents[3][:6].tolist()):
        every = [model.log_probabilities(np.array([*context, token]))[-1] for token in range(8)]
        assert np.exp(every).sum() == pytest.approx(1.0, abs=1e-12)


def test_a_bigram_model_is_what_one_computes_by_hand():
    # Three documents: a b, a b, a c. One bigram occurs once and one twice, so a third is taken off.
    # Each token stands behind one kind, which makes the lower order's discount one: it is even.
    model = ngram.KneserNey([np.array([0, 1]), np.array([0, 1]), np.array([0, 2])], 4, 2)
    lower = 1 / 4
    found = np.exp(model.log_probabilities(np.array([0, 1])))
    assert found == pytest.approx([(2 - 1 / 3) / 3 + (1 / 3) * 2 / 3 * lower])


def test_longer_contexts_help_where_text_repeats():
    text = np.tile(np.array([1, 2, 3, 1, 2, 4, 5]), 60)
    seen = [ngram.KneserNey([text], 8, order).perplexity([text]) for order in (2, 3, 4)]
    assert seen[0] > seen[1] > seen[2]
    assert np.exp(-ngram.unigram(text, 8)[text].mean()) > seen[0]
