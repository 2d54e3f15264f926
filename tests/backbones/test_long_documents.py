"""Fast paths against transformers' own: attention in blocks, documents without padding, fused LoRA."""

import pytest
import torch
from peft import LoraConfig
from peft.tuners import lora as peft_lora
from transformers import DynamicCache, GPTNeoModel, MambaModel
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention
from transformers.models.mamba.modeling_mamba import MambaBlock

from longdoc.adapters.fused import FusedLoraLinear
from longdoc.adapters.lora import add_lora
from longdoc.backbones import MambaForSequenceClassification
from longdoc.backbones import mamba as backbone
from longdoc.backbones.classification import GPTNeoForSequenceClassification
from longdoc.backbones.gpt_neo import BlockSelfAttention, use_block_attention
from longdoc.backbones.mamba import ModularMambaBlock, ModularMambaMixer, use_modular_mixers
from longdoc.kernels import causal_attention, low_rank
from longdoc.kernels.causal_attention import blocked, reference
from tests import tolerances
from tests.assertions import assert_close
from tests.backbones.tiny import CLASSIFIERS, gradients_of, mamba, neo, padded


@pytest.mark.parametrize("window", [None, 1, 5, 8])
@pytest.mark.parametrize("length", [1, 4, 5, 8, 9, 16, 17, 41])
def test_attention_in_blocks_equals_the_reference(length, window):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, length, 4, dtype=torch.float64) for _ in range(3))
    leaves = [x.requires_grad_() for x in (query, key, value)]
    outcomes = []
    for variant in (blocked, reference):
        y = variant.causal_attention(*leaves, 0.7, window)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        outcomes.append([y, *torch.autograd.grad((y * weights).sum(), leaves)])
    for found, wanted in zip(*outcomes, strict=True):
        assert_close(found, wanted, tolerances.FLOAT64)


def test_attention_of_documents_one_after_the_other_stays_within_them():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 3, 30, 4) for _ in range(3))
    starts = torch.tensor([0, 1, 13, 30])
    found = causal_attention(query, key, value, 1.0, 4, starts)
    wanted = reference.causal_attention(query, key, value, 1.0, 4, starts)
    assert_close(found, wanted, 1e-5)
    cut = slice(13, 30)
    parts = (x[:, :, cut] for x in (query, key, value))
    assert_close(found[:, :, cut], reference.causal_attention(*parts, 1.0, 4), 1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query": torch.zeros(1, 3, 0, 4)}, "none of them 0"),
        ({"key": torch.zeros(1, 3, 5, 4)}, "key must have the shape of query"),
        ({"window": 0}, "window must be at least 1"),
        ({"starts": torch.tensor([0, 5])}, "starts must rise from 0 to 6"),
    ],
)
def test_attention_refuses_what_does_not_fit(changed, message):
    given = {name: torch.zeros(1, 3, 6, 4) for name in ("query", "key", "value")}
    with pytest.raises(ValueError, match=message):
        causal_attention(**{**given, "scale": 1.0, **changed})


@pytest.mark.parametrize("training", [True, False])
def test_gpt_neo_equals_transformers_eager_model(training):
    model = GPTNeoModel(neo()).train(training)
    inputs = padded()
    real = inputs["attention_mask"].bool()
    wanted = model(**inputs, use_cache=False, output_hidden_states=True)
    use_block_attention(model)
    assert all(m.bias is None for m in model.modules() if isinstance(m, GPTNeoSelfAttention))
    found = model(**inputs, use_cache=False, output_hidden_states=True)
    assert len(found.hidden_states) == len(wanted.hidden_states)
    for one, other in zip(found.hidden_states, wanted.hidden_states, strict=True):
        assert_close(one[real], other[real], 1e-5)
    assert_close(found.last_hidden_state[real], wanted.last_hidden_state[real], 1e-5)


def test_gpt_neo_is_built_without_masks_of_positions_squared(monkeypatch):
    made = torch.tril

    def small(x, *arguments):
        assert x.shape[-1] == 1, "a mask of all positions squared"
        return made(x, *arguments)

    monkeypatch.setattr(torch, "tril", small)
    model = GPTNeoForSequenceClassification(neo(length=500)).eval()
    assert model(**padded()).logits.shape == (3, 3)
    assert all(m.config.max_position_embeddings == 500 for m in model.modules()
               if isinstance(m, GPTNeoSelfAttention))  # fmt: skip


def test_gpt_neo_still_does_what_only_the_eager_path_has():
    plain, model = GPTNeoModel(neo()).eval(), use_block_attention(GPTNeoModel(neo()).eval())
    model.load_state_dict(plain.state_dict())
    inputs = padded((20, 12))
    left = {name: value.flip(1) for name, value in inputs.items()}
    for given in (left, {**inputs, "output_attentions": True}):
        assert_close(model(**given).last_hidden_state, plain(**given).last_hidden_state, 1e-5)
    ids = inputs["input_ids"][:1]
    cache = DynamicCache(config=model.config)
    first = model(input_ids=ids[:, :11], past_key_values=cache, use_cache=True)
    then = model(input_ids=ids[:, 11:], past_key_values=first.past_key_values, use_cache=True)
    whole = plain(input_ids=ids).last_hidden_state
    assert_close(then.last_hidden_state, whole[:, 11:], 1e-5)


# GPT-Neo's learned positions count what stands before a document.
SIDES = [(*CLASSIFIERS[0], "right"), (*CLASSIFIERS[1], "right"), (*CLASSIFIERS[1], "left")]
SIDES += [(*CLASSIFIERS[2], side) for side in ("right", "left")]


@pytest.mark.parametrize(("classifier", "config", "side"), SIDES)
def test_documents_without_their_padding_give_what_they_give_alone(classifier, config, side):
    model, inputs = classifier(config()).eval(), padded()
    if side == "left":
        inputs = {name: value.flip(1) for name, value in inputs.items()}
    with torch.no_grad():
        together = model(**inputs).logits
        for row, mask in enumerate(inputs["attention_mask"].bool()):
            alone = model(input_ids=inputs["input_ids"][row][mask][None]).logits
            assert_close(together[row : row + 1], alone, 1e-5)


@pytest.mark.parametrize(("classifier", "config"), CLASSIFIERS)
def test_gradients_without_padding_are_those_with_it(classifier, config):
    model, inputs = classifier(config()).train(), padded()
    labels = torch.tensor([0, 2, 1])
    found = gradients_of(model, inputs, labels)
    model.packs_documents = False
    wanted = gradients_of(model, inputs, labels)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert_close(found[name], value, 1e-5, name)


@pytest.mark.parametrize("kind", ["forward", "pre", "backward", "global", "replaced"])
def test_whoever_watches_a_normalisation_is_told(kind):
    model = MambaForSequenceClassification(mamba()).train()
    norm, told = model.backbone.layers[0].norm, []
    if kind == "forward":
        norm.register_forward_hook(lambda *_: told.append(1))
    elif kind == "pre":
        norm.register_forward_pre_hook(lambda *_: told.append(1))
    elif kind == "backward":
        norm.register_full_backward_pre_hook(lambda *_: told.append(1))
    elif kind == "replaced":
        plain = norm.forward
        norm.forward = lambda x: (told.append(1), plain(x))[1]
    handle = None
    if kind == "global":
        handle = torch.nn.modules.module.register_module_forward_hook(
            lambda module, *_: told.append(1) if module is norm else None
        )
    try:
        model(**padded(), labels=torch.tensor([0, 2, 1])).loss.backward()
    finally:
        if handle is not None:
            handle.remove()
    assert told


def test_padding_leaves_mambas_state_as_it_is():
    model = use_modular_mixers(MambaModel(mamba()).eval())
    inputs = padded((7, 20))
    with torch.no_grad():
        cache = model(**inputs, use_cache=True).cache_params
        alone = model(input_ids=inputs["input_ids"][:1, :7], use_cache=True).cache_params
    for layer in range(2):
        found, wanted = (c.get_recurrent_state(layer, state_idx=0)[:1] for c in (cache, alone))
        assert_close(found, wanted, 1e-5)


def test_recomputing_a_part_or_the_whole_of_a_layer_changes_no_gradient(monkeypatch):
    model, inputs = MambaForSequenceClassification(mamba()).train(), padded()
    labels = torch.tensor([0, 2, 1])
    part = gradients_of(model, inputs, labels)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    whole = gradients_of(model, inputs, labels)
    assert not any(m.recompute for m in model.modules() if isinstance(m, ModularMambaMixer))
    model.gradient_checkpointing_disable()
    monkeypatch.setattr(ModularMambaBlock, "forward", MambaBlock.forward)
    wanted = gradients_of(model, inputs, labels)
    for name, value in wanted.items():
        assert_close(part[name], value, 1e-6, name)
        assert_close(whole[name], value, 1e-6, name)


@pytest.mark.parametrize("length", [33, 64, 100])
def test_a_document_read_in_segments_gives_what_it_gives_whole(monkeypatch, length):
    model = MambaForSequenceClassification(mamba()).eval()
    ids = torch.randint(1, 99, (2, length), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        monkeypatch.setattr(backbone, "SEGMENT", 32)
        assert_close(model(input_ids=ids).logits, whole, 1e-5)


@pytest.mark.parametrize(("classifier", "config"), CLASSIFIERS)
@pytest.mark.parametrize("tokens", [0, 10_000])  # merged; added
def test_fused_lora_equals_pefts_own(monkeypatch, classifier, config, tokens):
    monkeypatch.setattr(low_rank, "MERGED_ABOVE", tokens)
    model = add_lora(classifier(config()), rank=4, dropout=0.0).train()
    layers = [m for m in model.modules() if isinstance(m, FusedLoraLinear)]
    assert layers
    with torch.no_grad():
        for name, part in model.named_parameters():
            if "lora_" in name:
                part.normal_(std=0.1)
    inputs, labels = padded((70, 90)), torch.tensor([0, 2])
    found = gradients_of(model, inputs, labels)
    logits = model(**inputs).logits
    for layer in layers:
        layer.__class__ = peft_lora.Linear
    wanted = gradients_of(model, inputs, labels)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert_close(found[name], value, 1e-5, name)
    assert_close(model(**inputs).logits, logits, 1e-5)


def test_lora_dropout_drops_in_training_only():
    model = add_lora(MambaForSequenceClassification(mamba()), rank=4, dropout=0.5)
    with torch.no_grad():
        for name, part in model.named_parameters():
            if "lora_" in name:
                part.normal_(std=0.3)
    inputs = padded((70, 90))
    model.train()
    assert not torch.equal(model(**inputs).logits, model(**inputs).logits)
    model.eval()
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_layer_that_is_run_again_drops_the_same(monkeypatch, reentrant):
    monkeypatch.setattr(backbone, "SEGMENT", 32)
    model = add_lora(MambaForSequenceClassification(mamba()), rank=4, dropout=0.5).train()
    with torch.no_grad():
        for name, part in model.named_parameters():
            if "lora_" in name:
                part.normal_(std=0.3)
    inputs, labels = {"input_ids": padded((90,))["input_ids"]}, torch.tensor([1])

    def found():
        torch.manual_seed(5)
        return gradients_of(model, inputs, labels)

    wanted = found()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    for name, value in found().items():
        assert_close(value, wanted[name], 1e-5, name)


def test_lora_with_two_adapters_does_what_peft_does():
    model = add_lora(MambaForSequenceClassification(mamba()), rank=4, dropout=0.0).eval()
    model.add_adapter("other", LoraConfig(r=4, target_modules=["in_proj", "x_proj"]))
    with torch.no_grad():
        for name, part in model.named_parameters():
            if "lora_" in name:
                part.normal_(std=0.3)
    inputs = padded((70, 90))
    one = model(**inputs).logits
    layers = [module for module in model.modules() if isinstance(module, FusedLoraLinear)]
    for layer in layers:
        layer.set_adapter(["default", "other"])
    both = model(**inputs).logits
    assert not torch.equal(both, one)
    for layer in layers:
        layer.__class__ = peft_lora.Linear
    assert_close(model(**inputs).logits, both, 1e-6)


def test_lora_without_its_adapter_or_merged_does_what_peft_does():
    model = add_lora(MambaForSequenceClassification(mamba()), rank=4, dropout=0.0).eval()
    with torch.no_grad():
        for name, part in model.named_parameters():
            if "lora_" in name:
                part.normal_(std=0.3)
    inputs = padded((70, 90))
    adapted = model(**inputs).logits
    with model.disable_adapter():
        assert not torch.equal(model(**inputs).logits, adapted)
    merged = model.merge_and_unload()
    assert_close(merged(**inputs).logits, adapted, 1e-5)


@pytest.mark.parametrize(("classifier", "config"), CLASSIFIERS)
@pytest.mark.parametrize("side", ["right", "left", "hole"])
def test_leaving_padding_out_never_changes_what_a_model_says(classifier, config, side):
    model, inputs = classifier(config()).eval(), padded()
    if side == "left":
        inputs = {name: value.flip(1) for name, value in inputs.items()}
    if side == "hole":
        inputs["attention_mask"][1, 7] = 0
    with torch.no_grad():
        found = model(**inputs).logits
        for kind in (torch.bool, torch.float32):
            other = {**inputs, "attention_mask": inputs["attention_mask"].to(kind)}
            assert_close(model(**other).logits, found, 1e-6)
        model.packs_documents = False
        assert_close(model(**inputs).logits, found, 1e-5)


@pytest.mark.parametrize(("classifier", "config"), CLASSIFIERS)
def test_a_mask_of_a_batch_without_padding_is_not_looked_at(monkeypatch, classifier, config):
    model = classifier(config()).eval()
    ids = padded((40, 40))["input_ids"]
    read = []
    backbone = getattr(model, model.base_model_prefix)
    backbone.register_forward_pre_hook(
        lambda _, args, given: read.append(given["attention_mask"]), with_kwargs=True
    )
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
        assert torch.equal(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, wanted)
    assert read == [None, None]


@pytest.mark.parametrize(("classifier", "config"), CLASSIFIERS)
def test_a_model_in_bfloat16_runs(classifier, config):
    model = classifier(config()).to(torch.bfloat16).eval()
    assert model(**padded()).logits.dtype == torch.bfloat16


def test_attention_dropout_in_training_takes_the_eager_path():
    settings = neo()
    settings.attention_dropout = 0.5
    model = GPTNeoForSequenceClassification(settings).train()
    assert not torch.equal(model(**padded()).logits, model(**padded()).logits)


def test_an_empty_document_is_named():
    inputs = padded()
    inputs["attention_mask"][1] = 0
    with pytest.raises(ValueError, match="document 1 of the batch has no real token"):
        MambaForSequenceClassification(mamba())(**inputs)


def test_a_wider_convolution_than_the_kernels_have_runs():
    config = mamba()
    config.conv_kernel = 5
    plain = MambaModel(config).eval()
    inputs = {"input_ids": padded((30,))["input_ids"]}
    wanted = plain(**inputs).last_hidden_state
    assert_close(use_modular_mixers(plain)(**inputs).last_hidden_state, wanted, 1e-5)


def test_gpt_neo_makes_no_matrix_with_a_cache_or_without(monkeypatch):
    config = neo()
    config.use_cache = False
    model = use_block_attention(GPTNeoModel(config))
    monkeypatch.setattr(BlockSelfAttention, "_eager", None)  # would raise if it were called
    assert model(padded((40,))["input_ids"]).past_key_values is None
    filled = model(padded((40,))["input_ids"], use_cache=True).past_key_values
    assert filled.get_seq_length() == 40
    with pytest.raises(TypeError):
        model(padded((4,))["input_ids"], past_key_values=filled)
