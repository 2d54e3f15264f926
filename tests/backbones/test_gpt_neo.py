"""GPT-Neo: no square of scores, whatever is asked, and what transformers computes."""

import contextlib
import copy
import threading

import pytest
import torch
from transformers import (
    DynamicCache,
    GPTNeoForCausalLM,
    GPTNeoModel,
    StaticCache,
)

from longdoc.backbones import parts
from longdoc.backbones.classification import (
    GPTNeoForSequenceClassification,
)
from longdoc.backbones.gpt_neo import use_block_attention
from tests import tolerances
from tests.assertions import assert_close
from tests.backbones import tiny


def test_gpt_neo_reads_padding_before_documents_on_several_threads():
    torch.manual_seed(0)
    model = GPTNeoForSequenceClassification(tiny.neo()).eval()
    batches = []
    for length in (8, 20, 33, 50):
        mask = torch.ones(2, length, dtype=torch.long)
        mask[1, :3] = 0
        batches.append({"input_ids": torch.randint(1, 99, (2, length)), "attention_mask": mask})
    with torch.no_grad():
        wanted = [model(**batch).logits for batch in batches]
        failed = []

        def work(place):
            try:
                for _ in range(20):
                    found = model(**batches[place]).logits
                    assert_close(found, wanted[place], tolerances.MODEL_FLOAT32)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(len(batches))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed


@pytest.mark.parametrize("cache", ["static", "dynamic"])
def test_gpt_neo_writes_on_with_every_cache(cache):
    torch.manual_seed(0)
    model = GPTNeoForCausalLM(tiny.neo(window=4)).eval()
    ids = torch.randint(1, 99, (1, 9))
    options = {"max_new_tokens": 10, "do_sample": False, "pad_token_id": 0}
    # transformers' own local layers look at the wrong places of a static cache.
    wanted = model.generate(ids, **options)
    found = use_block_attention(model).generate(ids, cache_implementation=cache, **options)
    assert torch.equal(found, wanted)


class Watch(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the largest tensor that is made."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        for part in given if isinstance(given, list | tuple) else [given]:
            if isinstance(part, torch.Tensor):
                self.largest = max(self.largest, part.numel())
        return given


def before(length, rows=2):
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[0, : length // 3] = 0
    mask[1, -4:] = 0
    return mask


def behind(length, padding=3, rows=2):
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[0, length - padding :] = 0
    return mask


def again(length, rows=2):
    return torch.cat([torch.arange(length // 4), torch.arange(length - length // 4)]).expand(
        rows, length
    )


ASKED = {
    "nothing": lambda ids: {},
    "no cache": lambda ids: {"use_cache": False},
    "positions": lambda ids: {"position_ids": torch.arange(ids.shape[1])[None] + 3},
    "several documents a row": lambda ids: {
        "position_ids": again(ids.shape[1]), "use_cache": False
    },
    "places that begin again beside a cache": lambda ids: {"position_ids": again(ids.shape[1])},
    "token types": lambda ids: {"token_type_ids": ids.flip(1)},
    "padding before": lambda ids: {"attention_mask": before(ids.shape[1])},
    "padding before, of true and false": lambda ids: {"attention_mask": before(ids.shape[1]) > 0},
    "padding behind": lambda ids: {"attention_mask": behind(ids.shape[1])},
    "padding behind of more than a window": lambda ids: {"attention_mask": behind(ids.shape[1], 99)},
    "padding all over a row": lambda ids: {"attention_mask": behind(ids.shape[1], ids.shape[1])},
    "places of one dimension": lambda ids: {
        "position_ids": torch.arange(ids.shape[1]), "use_cache": False
    },
    "what transformers swallows": lambda ids: {"num_items_in_batch": torch.arange(3)},
    "padding before, no cache": lambda ids: {
        "attention_mask": before(ids.shape[1]), "use_cache": False
    },
    "padding before, places from one": lambda ids: {
        "attention_mask": before(ids.shape[1]),
        "position_ids": (before(ids.shape[1]).cumsum(1) - 1).clamp(min=0),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_gpt_neo_builds_no_square_and_equals_transformers(name):
    torch.manual_seed(0)
    length = 600
    theirs = GPTNeoModel(tiny.neo(length=length + 9)).eval()
    ours = use_block_attention(copy.deepcopy(theirs))
    ids = torch.randint(1, 99, (2, length))
    asked = ASKED[name](ids)
    wanted = theirs(ids, output_hidden_states=True, **asked)
    with Watch() as watch:
        found = ours(ids, output_hidden_states=True, **asked)
    assert watch.largest < length * length
    assert len(found.hidden_states) == len(wanted.hidden_states) == 3
    for mine, state in zip(found.hidden_states, wanted.hidden_states, strict=True):
        assert_close(mine, state, tolerances.MODEL_FLOAT32)
    assert (found.past_key_values is None) == (wanted.past_key_values is None)
    if found.past_key_values is not None:
        seen = torch.cat([torch.ones_like(ids), torch.ones_like(ids[:, :5])], dim=1)
        if "attention_mask" in asked:
            seen[:, :length] = asked["attention_mask"]
        more = {"attention_mask": seen, "position_ids": torch.arange(5)[None] + length}
        mine = ours(ids[:, :5], past_key_values=found.past_key_values, **more)
        other = theirs(ids[:, :5], past_key_values=wanted.past_key_values, **more)
        assert_close(mine[0], other[0], tolerances.MODEL_FLOAT32)


def test_gpt_neo_learns_the_same_from_padding_before_documents():
    torch.manual_seed(0)
    theirs = GPTNeoForCausalLM(tiny.neo()).train()
    ours = use_block_attention(copy.deepcopy(theirs))
    ids = torch.randint(1, 99, (2, 40))
    mask = before(40)
    # Not the first token either: it is foretold at a place of padding, and what transformers learns
    # there comes from scores that rounding has made equal.
    labels = ids.masked_fill((mask == 0) | (mask.cumsum(1) == 1), -100)
    for model in (theirs, ours):
        model(ids, attention_mask=mask, labels=labels).loss.backward()
    wanted = dict(theirs.named_parameters())
    for name, part in ours.named_parameters():
        assert_close(part.grad, wanted[name].grad, tolerances.MODEL_FLOAT32)


def test_gpt_neo_sees_a_mask_that_a_user_made():
    torch.manual_seed(0)
    theirs = GPTNeoModel(tiny.neo()).eval()
    ours = use_block_attention(copy.deepcopy(theirs))
    ids = torch.randint(1, 99, (2, 20))
    square = torch.zeros(2, 1, 20, 20).masked_fill(torch.ones(20, 20).triu(-2).bool(), -1e9)
    holes = torch.ones_like(ids)
    holes[:, 3:6] = 0
    for mask in (square, holes):
        wanted = theirs(ids, attention_mask=mask)[0]
        assert_close(ours(ids, attention_mask=mask)[0], wanted, tolerances.MODEL_FLOAT32)


@contextlib.contextmanager
def kept_for_the_way_back():
    """Give the elements of every storage that is kept, once each."""
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def with_holes(rows, tokens):
    holes = torch.ones(rows, tokens, dtype=torch.long)
    holes[0, 3:6] = holes[:, tokens // 2 : tokens // 2 + 20] = holes[1, -4:] = 0
    return holes


def with_narrow_holes(rows, tokens):
    holes = with_holes(rows, tokens)
    holes[:, tokens // 2 : tokens // 2 + 20] = 1
    holes[1, ::3] = 0
    holes[1, :30] = 0
    return holes


UNUSUAL = {
    "narrow holes": lambda n: {"attention_mask": with_narrow_holes(2, n)},
    "holes": lambda n: {"attention_mask": with_holes(2, n)},
    "a mask made by others": lambda n: {
        "attention_mask": torch.zeros(1, 1, n, n).masked_fill(torch.ones(n, n).triu(-2).bool(), -1e9)
    },
    "padding by others": lambda n: {
        "attention_mask": torch.zeros(2, 1, 1, n).masked_fill(with_holes(2, n)[:, None, None] == 0, -1e9)
    },
    "holes and places": lambda n: {
        "attention_mask": with_holes(2, n), "position_ids": with_holes(2, n).cumsum(1) - 1
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", UNUSUAL)
def test_gpt_neo_reads_a_part_of_the_queries_at_a_time(name, kind):
    length = 600
    theirs = GPTNeoForCausalLM(tiny.neo(length=length + 9)).train().to(kind)
    ours = use_block_attention(copy.deepcopy(theirs))
    ids, asked = torch.randint(1, 99, (2, length)), UNUSUAL[name](length)
    if kind != torch.float32 and asked["attention_mask"].dim() == 4:
        asked["attention_mask"] = asked["attention_mask"].to(kind)
    wanted = theirs(ids, labels=ids, **asked)
    with Watch() as watch:
        found = ours(ids, labels=ids, **asked)
    assert watch.largest <= parts.LARGE < 2 * 3 * length * length
    # Parts are not kept either, or all of them would be.
    with kept_for_the_way_back() as sizes:
        ours(ids, **asked)
    assert sum(sizes.values()) < 2 * 2 * 3 * length * length
    near = tolerances.BFLOAT16 if kind == torch.bfloat16 else tolerances.MODEL_FLOAT32
    assert_close(found.logits, wanted.logits, near)
    for outputs in (found, wanted):
        outputs.loss.backward()
    other = dict(theirs.named_parameters())
    for weight, part in ours.named_parameters():
        assert_close(part.grad, other[weight].grad, near)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cache", [DynamicCache, StaticCache])
def test_gpt_neo_reads_on_a_part_at_a_time(cache, masked):
    theirs = GPTNeoModel(tiny.neo(length=700)).eval()
    ours = use_block_attention(copy.deepcopy(theirs))
    ids = torch.randint(1, 99, (2, 650))
    mask = {"attention_mask": with_holes(2, 650)} if masked else {}
    wanted = theirs(ids, **mask)[0]
    kept = cache(config=theirs.config, **({"max_cache_len": 650} if cache is StaticCache else {}))
    for first, after in ((0, 10), (10, 640), (640, 650)):
        seen = {name: value[:, :after] for name, value in mask.items()}
        if masked and cache is StaticCache:
            seen = mask
        with Watch() as watch:
            found = ours(ids[:, first:after], past_key_values=kept, **seen)
        assert watch.largest <= parts.LARGE
        assert found.past_key_values is kept
        assert_close(found[0], wanted[:, first:after], tolerances.MODEL_FLOAT32)


@pytest.mark.parametrize(("mask", "called"), [(with_narrow_holes, False), (with_holes, True)])
def test_only_holes_as_wide_as_a_window_need_all_keys(mask, called, monkeypatch):
    model, ran = use_block_attention(GPTNeoModel(tiny.neo(length=600))).eval(), []
    monkeypatch.setattr(
        "longdoc.backbones.gpt_neo.attend", lambda query, *_: ran.append(True) or query
    )
    model(torch.randint(1, 99, (2, 600)), attention_mask=mask(2, 600))
    assert bool(ran) == called


def dropping(dropout=0.3, length=430):
    config = tiny.neo(length=length)
    config.attention_dropout = dropout
    model = use_block_attention(GPTNeoModel(config))
    return model.train(), torch.randn(2, length, 24)


def test_gpt_neo_drops_attention_a_part_at_a_time():
    model, hidden = dropping()
    layer = model.h[0].attn.attention
    with torch.no_grad():
        assert not torch.equal(layer(hidden)[0], layer(hidden)[0])
        mean = sum(layer(hidden)[0] for _ in range(100)) / 100
        wanted = layer.eval()(hidden)[0]
    assert (mean - wanted).abs().mean() < 0.15 * wanted.abs().mean()
    layer.train().attn_dropout.eval()  # a module of its own, as everywhere in torch
    with torch.no_grad():
        assert_close(layer(hidden)[0], wanted, tolerances.MODEL_FLOAT32)


def test_gpt_neo_drops_the_same_on_the_way_back_whatever_other_threads_draw():
    wrong, made = [], [dropping() for _ in range(2)]

    def learn(number):
        model, hidden = made[number]
        layer = model.h[0].attn.attention
        generator = torch.Generator().manual_seed(number)
        for _ in range(5):
            layer.zero_grad()
            out = layer(hidden)[0]
            slope = torch.randn(out.shape, generator=generator)
            out.backward(slope)
            # Out is linear in the values' weights.
            out = out.detach()
            found = (layer.v_proj.weight.grad * layer.v_proj.weight.detach()).sum()
            told = ((out - layer.out_proj.bias.detach()) * slope).sum()
            scale = ((out - layer.out_proj.bias.detach()) * slope).abs().sum()
            wrong.append(((found - told).abs() / scale).item())

    threads = [threading.Thread(target=learn, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 10
    assert max(wrong) < tolerances.MODEL_FLOAT32


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_gpt_neo_parts_documents_a_part_at_a_time(kind):
    config = tiny.neo(length=640)
    theirs = GPTNeoModel(config).train().to(kind)
    ours = use_block_attention(copy.deepcopy(theirs))
    ours.config.attention_dropout = 0.3  # the path is that of dropout, and its modules drop nothing
    ids = torch.randint(1, 99, (2, 640))
    places = torch.cat([torch.arange(250), torch.arange(390)])[None]
    asked = {"position_ids": places, "use_cache": False}
    wanted = theirs(ids, **asked)[0]
    assert (theirs(ids, use_cache=False)[0] - wanted).abs().max() > 0.1
    near = tolerances.FLOAT64 if kind == torch.float64 else tolerances.MODEL_FLOAT32
    assert_close(ours(ids, **asked)[0], wanted, near)
    assert_close(ours(ids, use_cache=False)[0], theirs(ids, use_cache=False)[0], near)


def test_gpt_neo_refuses_a_mask_of_another_height():
    model = use_block_attention(GPTNeoModel(tiny.neo(length=700)).eval())
    with pytest.raises(ValueError, match="attention_mask has 650 rows for 600 tokens"):
        model(torch.ones(2, 600, dtype=torch.long), attention_mask=torch.zeros(1, 1, 650, 600))


def test_gpt_neo_foretells_the_same_at_padding():
    torch.manual_seed(0)
    theirs = GPTNeoForCausalLM(tiny.neo()).train()
    ours = use_block_attention(copy.deepcopy(theirs))
    ids = torch.randint(1, 99, (2, 40))
    losses = [model(ids, attention_mask=behind(40, 6), labels=ids).loss for model in (theirs, ours)]
    for loss in losses:
        loss.backward()
    assert_close(losses[1], losses[0], tolerances.MODEL_FLOAT32)
    wanted = dict(theirs.named_parameters())
    for name, part in ours.named_parameters():
        assert_close(part.grad, wanted[name].grad, tolerances.MODEL_FLOAT32)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_gpt_neo_with_padding_in_other_types_is_transformers(kind):
    torch.manual_seed(0)
    theirs = GPTNeoModel(tiny.neo(window=4)).eval().to(kind)
    ours = use_block_attention(copy.deepcopy(theirs))
    ids = torch.randint(1, 99, (2, 40))
    mask = before(40) * behind(40, 20)
    wanted = theirs(ids, attention_mask=mask)[0]
    tolerance = tolerances.FLOAT64 if kind == torch.float64 else tolerances.BFLOAT16
    assert_close(ours(ids, attention_mask=mask)[0], wanted, tolerance)


def test_gpt_neo_with_a_mask_gives_shapes_of_what_holds_nothing():
    model = use_block_attention(GPTNeoModel(tiny.neo())).to("meta")
    ids = torch.ones(2, 5, dtype=torch.long, device="meta")
    assert model(ids, attention_mask=torch.ones_like(ids))[0].shape == (2, 5, 24)


def test_gpt_neo_reads_no_document_as_transformers_does():
    model = use_block_attention(GPTNeoModel(tiny.neo()).eval())
    for options in ({}, {"use_cache": False}):
        assert model(torch.zeros(0, 5, dtype=torch.long), **options)[0].shape == (0, 5, 24)
