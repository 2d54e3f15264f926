"""Odd but possible uses of the backbones and of what they stand on."""

import contextlib
import copy
import os
import subprocess
import sys
import threading

import peft
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    DynamicCache,
    GPTNeoForCausalLM,
    GPTNeoModel,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    StaticCache,
)

from longdoc.adapters.lora import add_lora
from longdoc.backbones import MambaForSequenceClassification, parts
from longdoc.backbones.bert import BertForSequenceClassification
from longdoc.backbones.classification import (
    GPTNeoForSequenceClassification,
    LlamaForSequenceClassification,
)
from longdoc.backbones.dropout import FastDropout, use_fast_dropouts
from longdoc.backbones.gpt_neo import use_block_attention
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


UNUSUAL = {
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


def step_of(model, ids):
    model.zero_grad()
    loss = model(ids).logits.square().sum()
    return loss, [part for part in model.parameters() if part.requires_grad]


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


@pytest.mark.parametrize("part", ["x_proj.weight", "dt_proj.bias", "A_log", "D", "conv1d.weight"])
def test_a_mamba_whose_parameters_changed_has_no_gradients_of_them(part):
    model = MambaForSequenceClassification(tiny.mamba()).train()
    ids = torch.randint(1, 99, (2, 9))
    loss, _ = step_of(model, ids)
    loss.backward(retain_graph=True)
    loss.backward(retain_graph=True)
    with torch.no_grad():
        model.get_parameter(f"backbone.layers.1.mixer.{part}").mul_(2)
    with pytest.raises(RuntimeError, match=f"{part} of a .*Mixer was changed after the forward"):
        loss.backward()
    step_of(model, ids)[0].backward()


def test_a_mamba_called_with_other_parameters_has_no_gradients_of_its_own():
    model = MambaForSequenceClassification(tiny.mamba()).train()
    ids = torch.randint(1, 99, (2, 9))
    others = {
        name: part.detach().mul(1.5).requires_grad_() for name, part in model.named_parameters()
    }
    given = torch.func.functional_call(model, others, (ids,))
    with pytest.raises(RuntimeError, match="functional_call"):
        given.logits.sum().backward()
    outer = {name: part for name, part in others.items() if "in_proj" in name or "out_proj" in name}
    torch.func.functional_call(model, outer, (ids,)).logits.sum().backward()
    assert all(part.grad is not None for part in outer.values())


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["in_proj"], "modules_to_save": ["x_proj", "conv1d"]},
        {"target_modules": ["in_proj"], "target_parameters": ["dt_proj.weight"]},
        {"target_modules": ["in_proj", "x_proj"]},
    ],
)
def test_what_peft_does_by_itself_is_no_change(options):
    model = MambaForSequenceClassification(tiny.mamba()).requires_grad_(True)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, **options)).train()
    wrapped.base_model.model.get_input_embeddings().weight.requires_grad_()
    ids = torch.randint(1, 99, (2, 9))
    wrapped(ids).logits.sum().backward()
    if "target_parameters" not in options:
        wrapped.merge_adapter()
        with wrapped.disable_adapter():
            wrapped(ids).logits.sum().backward()


def test_a_mamba_may_be_stepped_while_it_goes_back():
    trained = []
    for within in (False, True):
        model = MambaForSequenceClassification(tiny.mamba()).train()
        parts = [part for part in model.parameters() if part.requires_grad]
        steps = {part: torch.optim.SGD([part], lr=0.01) for part in parts}
        if within:
            for part in parts:
                part.register_post_accumulate_grad_hook(lambda done, each=steps: each[done].step())
        step_of(model, torch.arange(1, 19).view(2, 9))[0].backward()
        if not within:
            for step in steps.values():
                step.step()
        trained.append(model.state_dict())
    for name, part in trained[0].items():
        assert torch.equal(trained[1][name], part), name


def test_another_adapter_between_forward_and_backward_is_refused_where_it_counts():
    model = MambaForSequenceClassification(tiny.mamba())
    model = add_lora(model, rank=2, target_modules=["x_proj", "dt_proj"]).train()
    ids = torch.randint(1, 99, (2, 9))
    loss = model(ids).logits.sum()
    model.add_adapter("other", model.peft_config["default"])
    with torch.no_grad():
        for name, part in model.named_parameters():
            if ".other." in name:
                part.add_(1)
    loss.backward(retain_graph=True)
    model.set_adapter("other")
    with model.disable_adapter():
        refused = pytest.raises(RuntimeError, match="of a ModularMambaMixer was changed")
        with refused:
            loss.backward(retain_graph=True)
    model.set_adapter("other")
    with pytest.raises(RuntimeError, match="what is active of a ModularMambaMixer was"):
        loss.backward()
