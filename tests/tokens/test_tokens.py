import gc

import numpy as np
import pytest
import torch

from longdoc.documents.document import Corpus, Document
from longdoc.errors import SettingsError
from longdoc.tokens import tokenizers
from longdoc.tokens.batches import Collate, EpochBatches
from longdoc.tokens.corpus import KEPT, encode_corpus
from longdoc.tokens.encoding import TokenSettings, encode

TEXTS = ["the river runs", "bread and salt and bread", "a lamp in the forest"] * 5


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.train(TEXTS, 300)


def documents(*texts):
    return [Document(str(i), (text,), ()) for i, text in enumerate(texts)]


def test_a_causal_backbone_gets_an_end_of_text_token_even_when_cut(tokenizer):
    settings = TokenSettings(max_tokens=4)
    short, long = encode(documents("the", "bread " * 50), tokenizer, settings, causal=True)
    assert short.ids[-1] == long.ids[-1] == tokenizer.eos_token_id
    assert len(long.ids) == 4
    assert long.length > 40


def test_a_bidirectional_backbone_gets_cls_and_sep(tokenizer):
    settings = TokenSettings(max_tokens=5)
    (found,) = encode(documents("bread " * 50), tokenizer, settings, causal=False)
    assert found.ids[0] == tokenizer.cls_token_id
    assert found.ids[-1] == tokenizer.sep_token_id
    assert len(found.ids) == 5


def test_head_and_tail_keep_both_ends(tokenizer):
    text = " ".join(["river"] * 30 + ["salt"] * 30)
    settings = TokenSettings(max_tokens=9, truncation="head-tail", head_tokens=3)
    (found,) = encode(documents(text), tokenizer, settings, causal=True)
    kept = tokenizer.decode(found.ids[:-1])
    assert kept.startswith("river")
    assert kept.endswith("salt")


def corpus_of(*texts):
    part = tuple(documents(*texts))
    splits = {"train": part, "validation": part[:1], "test": part[1:]}
    return Corpus(name="words", task="t", kind="multi-label", labels=("a",), splits=splits)


def test_the_next_run_on_a_corpus_takes_the_tokens_of_the_one_before(tokenizer, monkeypatch):
    corpus, settings = corpus_of("bread and salt", "a lamp"), TokenSettings(max_tokens=8)
    first = encode_corpus(corpus, tokenizer, settings, causal=True)
    expected = encode(corpus.splits["test"], tokenizer, settings, causal=True)
    assert [part.ids.tolist() for part in first["test"]] == [expected[0].ids.tolist()]
    monkeypatch.setattr("longdoc.tokens.corpus.encode", None)
    assert encode_corpus(corpus, tokenizer, settings, causal=True) is first


@pytest.mark.parametrize("other", ["documents", "tokenizer", "special", "length", "causal"])
def test_tokens_are_made_anew_where_anything_of_them_differs(tokenizer, other):
    texts = ["bread and salt", "a lamp in the forest"]
    corpus, settings, causal = corpus_of(*texts), TokenSettings(max_tokens=8), True
    encode_corpus(corpus, tokenizer, settings, causal=causal)
    if other == "documents":
        corpus = corpus_of(*texts[::-1])
    elif other == "tokenizer":
        tokenizer = tokenizers.train(["quite other words"] * 5, 270)
    elif other == "special":
        tokenizer = tokenizers.train(TEXTS, 300)
        tokenizer.eos_token = tokenizer.pad_token
    elif other == "length":
        settings = TokenSettings(max_tokens=4)
    else:
        causal = False
    found = encode_corpus(corpus, tokenizer, settings, causal=causal)
    expected = encode(corpus.splits["train"], tokenizer, settings, causal=causal)
    for part, wanted in zip(found["train"], expected, strict=True):
        assert part.ids.tolist() == wanted.ids.tolist()


def test_tokens_go_with_their_corpus(tokenizer):
    corpus = corpus_of("bread and salt", "a lamp")
    encode_corpus(corpus, tokenizer, TokenSettings(max_tokens=8), causal=True)
    assert len(KEPT) == 1
    del corpus
    gc.collect()
    assert not KEPT


def test_no_room_for_a_token_is_refused():
    with pytest.raises(SettingsError, match=r"tokens\.max_tokens must be at least 3; got 2"):
        TokenSettings(max_tokens=2)


def test_any_text_can_be_written_and_read_back(tokenizer):
    text = "¿Qué? 判決 \U0001f600 \t\n x"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_a_tokenizer_is_trained_once_and_then_read(tmp_path):
    first = tokenizers.train_cached(iter(TEXTS), 280, "d1", tmp_path)
    second = tokenizers.train_cached(iter([]), 280, "d1", tmp_path)
    assert first.get_vocab() == second.get_vocab()
    assert len(list(tmp_path.iterdir())) == 1


def test_batches_are_padded_on_the_right_and_masked():
    nothing = np.zeros(1, np.float32)
    rows = [(np.array([5, 6], np.int32), nothing), (np.array([7, 8, 9], np.int32), nothing)]
    batch = Collate(0)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 0], [7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


def test_batches_of_nearly_one_length_get_one_length():
    nothing = np.zeros(1, np.float32)

    def width(longest, most):
        rows = [(np.ones(length, np.int32), nothing) for length in (1, longest)]
        batch = Collate(0, most)(rows)
        assert batch["attention_mask"].sum(dim=1).tolist() == [1, longest]
        return batch["input_ids"].shape[1]

    assert [width(longest, 512) for longest in (241, 250, 256, 257)] == [256, 256, 256, 272]
    assert [width(longest, 512) for longest in (1, 9, 15, 33, 100)] == [1, 9, 15, 36, 104]
    assert width(509, 509) == width(500, 509) == 509  # no position beyond the longest document
    assert width(300, 0) == 300
    for longest in range(1, 600):
        assert longest <= width(longest, 600) <= min(600, longest + 15, longest * 1.125)


LENGTHS = np.random.default_rng(0).integers(1, 300, 50).tolist()


@pytest.mark.parametrize("group", [True, False])
def test_a_step_takes_the_same_documents_however_it_is_cut_up(group):
    whole = EpochBatches(LENGTHS, 16, seed=3, group=group)
    cut = EpochBatches(LENGTHS, 2, accumulation=8, seed=3, group=group)
    halves = [EpochBatches(LENGTHS, 8, processes=2, rank=r, seed=3, group=group) for r in (0, 1)]
    for epoch in (0, 1):
        for sampler in (whole, cut, *halves):
            sampler.set_epoch(epoch)
        steps = [sorted(batch) for batch in whole]
        pieces = [d for batch in cut for d in batch]
        assert [sorted(pieces[i : i + 16]) for i in range(0, len(pieces), 16)] == steps
        both = [sorted(a + b) for a, b in zip(*halves, strict=True)]
        assert both == steps


def test_every_document_occurs_every_epoch_and_epochs_differ():
    sampler = EpochBatches(LENGTHS, 16, seed=0)
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        orders.append([d for batch in sampler for d in batch])
        assert set(orders[-1]) == set(range(50))
        assert len(orders[-1]) == 64 == len(sampler) * 16
    assert orders[0] != orders[1]


def test_fewer_documents_than_a_step_fill_it():
    sampler = EpochBatches([1, 2, 3], 8)
    (batch,) = list(sampler)
    assert sorted(set(batch)) == [0, 1, 2]
    assert len(batch) == 8


def test_grouping_by_length_saves_padding():
    def padding(sampler):
        return sum(
            max(LENGTHS[d] for d in b) * len(b) - sum(LENGTHS[d] for d in b) for b in sampler
        )

    assert padding(EpochBatches(LENGTHS, 8)) < 0.6 * padding(EpochBatches(LENGTHS, 8, group=False))


def test_last_token_goes_by_the_mask_not_by_the_number():
    from longdoc.heads.pooling import last_token, real_lengths

    hidden = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert last_token(hidden, real_lengths(mask)).tolist() == [[2.0, 3.0], [10.0, 11.0]]
    with pytest.raises(ValueError, match=r"lengths must lie in 1\.\.3; got 0\.\.2"):
        last_token(hidden, torch.tensor([0, 2]))
