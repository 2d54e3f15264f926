"""LoRA on every family: alive, merged as unmerged, saved in peft's format."""

import copy

import peft
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPTNeoConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MambaModel,
)
from transformers import GPTNeoForSequenceClassification as TheirGPTNeo

from longdoc.adapters import lora, placement
from longdoc.adapters.lora import AdapterSettings, add_lora
from longdoc.backbones import MambaForSequenceClassification
from longdoc.backbones.classification import (
    GPTNeoForSequenceClassification,
    LlamaForSequenceClassification,
)
from longdoc.errors import RunError, SettingsError
from tests import tolerances
from tests.assertions import assert_close

SIZE = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 2}
MAMBA = MambaConfig(**SIZE, state_size=4, num_labels=3)
NEO = GPTNeoConfig(
    vocab_size=60, hidden_size=24, num_layers=2, num_heads=2, max_position_embeddings=40,
    attention_types=[[["global", "local"], 1]], num_labels=3, pad_token_id=0, bos_token_id=1, eos_token_id=1,
)  # fmt: skip
BERT = BertConfig(**SIZE, num_attention_heads=2, intermediate_size=32, num_labels=3)
LLAMA = LlamaConfig(
    **SIZE, num_attention_heads=2, intermediate_size=32, num_labels=3, pad_token_id=0
)
FAMILIES = {
    "mamba": lambda: MambaForSequenceClassification(MAMBA),
    "gpt-neo": lambda: GPTNeoForSequenceClassification(NEO),
    "bert": lambda: BertForSequenceClassification(BERT),
    "llama": lambda: LlamaForSequenceClassification(LLAMA),
    "transformers' mamba": lambda: MambaModel(MAMBA),
    "transformers' gpt-neo": lambda: TheirGPTNeo(NEO),
}
BATCH = {
    "input_ids": torch.randint(2, 60, (2, 17), generator=torch.Generator().manual_seed(0)),
    "attention_mask": torch.ones(2, 17, dtype=torch.long),
}


def output(model):
    found = model(**BATCH)
    return found.logits if hasattr(found, "logits") else found.last_hidden_state


def shaken(model):
    """Give adapters random numbers, so that they say something."""
    generator = torch.Generator().manual_seed(1)
    for part in lora.adapter_tensors(model).values():
        part.data = 0.1 * torch.randn(part.shape, generator=generator)
    return model.eval()


@pytest.fixture(params=FAMILIES)
def model(request):
    torch.manual_seed(0)
    return FAMILIES[request.param]()


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_does(model):
    model.eval()
    with torch.no_grad():
        before = output(model)
        adapted = add_lora(model, rank=4).eval()
        assert_close(output(adapted), before, tolerances.MODEL_FLOAT32)
        assert not torch.allclose(output(shaken(adapted)), before, atol=1e-3)


def test_every_adapter_tensor_gets_a_gradient(model):
    adapted = shaken(add_lora(model, rank=4, dropout=0.0))
    output(adapted).square().sum().backward()
    tensors = lora.adapter_tensors(adapted)
    assert tensors
    for name, part in tensors.items():
        assert part.grad is not None, name
        assert part.grad.abs().sum() > 0, name


def test_each_adapter_alone_changes_the_output(model):
    adapted = add_lora(model, rank=4).eval()
    modules = {name.rsplit(".lora_", 1)[0] for name in lora.adapter_tensors(adapted)}
    with torch.no_grad():
        before = output(adapted)
        for module in modules:
            kept = {}
            for name, part in lora.adapter_tensors(adapted).items():
                if name.startswith(module + ".lora_"):
                    kept[name] = part.data.clone()
                    part.data.normal_(std=0.5)
            assert (output(adapted) - before).abs().max() > 1e-6, module
            for name, part in lora.adapter_tensors(adapted).items():
                part.data = kept.get(name, part.data)


def test_merged_equals_unmerged(model):
    adapted = shaken(add_lora(model, rank=4))
    with torch.no_grad():
        wanted = output(adapted)
        merged = adapted.merge_and_unload().eval()
        assert_close(output(merged), wanted, tolerances.MODEL_FLOAT32)
    assert not lora.adapter_tensors(merged)


def test_only_adapters_and_the_head_train(model):
    adapted = add_lora(model)
    for name, part in adapted.named_parameters():
        head = any(f"{h}." in name for h in ("score", "classifier", "pooler"))
        kept_original = "original_module" in name
        assert part.requires_grad == ("lora_" in name or (head and not kept_original)), name


@pytest.mark.parametrize("target", ["in_proj", "x_proj", "dt_proj", "out_proj", "embeddings"])
def test_each_of_mambas_places_works_alone(target):
    torch.manual_seed(0)
    adapted = add_lora(MambaForSequenceClassification(MAMBA), 4, 8, 0.0, [target])
    lora.check_alive(adapted, BATCH)
    shaken(adapted)
    with torch.no_grad():
        wanted = output(adapted)
        assert_close(output(adapted.merge_and_unload().eval()), wanted, tolerances.MODEL_FLOAT32)


def test_a_causal_model_with_tied_embeddings_merges_as_well():
    torch.manual_seed(0)
    model = MambaForCausalLM(MAMBA)
    adapted = shaken(add_lora(model, 4, target_modules=["embeddings", "in_proj"]))
    with torch.no_grad():
        wanted = output(adapted)
        assert_close(output(adapted.merge_and_unload().eval()), wanted, tolerances.MODEL_FLOAT32)


def test_adapters_are_saved_in_pefts_format_and_come_back(tmp_path):
    torch.manual_seed(0)
    base = MambaForSequenceClassification(MAMBA)
    base.save_pretrained(tmp_path / "base")
    adapted = shaken(add_lora(base, rank=4))
    adapted.save_pretrained(tmp_path / "adapter")
    assert {f.name for f in (tmp_path / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    fresh = MambaForSequenceClassification.from_pretrained(tmp_path / "base")
    again = lora.load_lora(fresh, tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(output(again), output(adapted))
    config = peft.PeftConfig.from_pretrained(tmp_path / "adapter")
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 32, 0.1)


def test_a_dead_adapter_is_refused():
    class Deaf(nn.Module):
        """A model past whose first layer its input is read."""

        def __init__(self):
            super().__init__()
            self.inner = FAMILIES["bert"]()
            self.unused_lora_A = nn.Parameter(torch.zeros(3))

        def forward(self, **batch):
            return self.inner(**batch)

    with pytest.raises(
        RunError, match="1 of 1 adapter tensors have no effect on the result: unused_lora_A"
    ):
        lora.check_alive(Deaf(), BATCH)


def test_the_check_leaves_everything_as_it_was():
    adapted = add_lora(FAMILIES["mamba"](), rank=4)
    before = {name: part.clone() for name, part in adapted.named_parameters()}
    state = torch.random.get_rng_state()
    lora.check_alive(adapted, BATCH)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, part in adapted.named_parameters():
        assert torch.equal(part, before[name]), name
        assert part.grad is None


def test_peft_alone_refuses_mambas_out_proj_elsewhere():
    """The guard is lifted only while our mixers are wrapped."""
    add_lora(FAMILIES["mamba"](), target_modules=["out_proj"])
    config = peft.LoraConfig(target_modules=["out_proj"])
    with pytest.raises(ValueError, match="incompatible"):
        peft.get_peft_model(MambaModel(MAMBA), config)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rank": 0}, "adapter.rank must be at least 1; got 0"),
        ({"alpha": 0}, "adapter.alpha must be above 0"),
        ({"dropout": 1.0}, r"adapter.dropout must be in 0..1"),
        ({"target_modules": ["q_prj"]}, "no module named 'q_prj'; did you mean"),
        ({"exclude_modules": ["q_prj"]}, "adapter.exclude_modules: no module named 'q_prj'"),
        (
            {"target_modules": ["q_proj"], "exclude_modules": ["q_proj"]},
            "exclude_modules leaves nothing",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(changed, message):
    with pytest.raises(SettingsError, match=message):
        add_lora(FAMILIES["gpt-neo"](), **changed)


@pytest.mark.parametrize(
    ("preset", "trained"),
    [("none", 1.0), ("head-only", 0.01), ("e5-mistral", 0.9), ("original-notes", 0.9)],
)
def test_presets_train_what_they_say(preset, trained):
    adapted = lora.apply(FAMILIES["mamba"](), AdapterSettings(preset=preset), "random")
    some, every = lora.count_parameters(adapted)
    if preset == "none":
        assert some == every
    elif preset == "head-only":
        assert some == 24 * 3
    else:
        names = {n.split(".lora_")[0].rsplit(".", 1)[-1] for n in lora.adapter_tensors(adapted)}
        wanted = placement.targets(preset, "mamba")
        assert names == set(wanted)
    assert some <= trained * every


def test_what_is_excluded_is_left_as_it_is():
    adapted = add_lora(
        FAMILIES["bert"](),
        target_modules=["intermediate.dense", "output.dense"],
        exclude_modules=["attention.output.dense"],
    )
    wrapped = {
        name.split(".lora_")[0].split(".layer.")[1] for name in lora.adapter_tensors(adapted)
    }
    assert wrapped == {f"{n}.{part}.dense" for n in (0, 1) for part in ("intermediate", "output")}


@pytest.mark.parametrize(
    "field",
    ["rank", "alpha", "dropout", "target_modules", "exclude_modules", "rank_stabilised"],
)
def test_each_setting_changes_something(field):
    other = {
        "rank": 3,
        "alpha": 5.0,
        "dropout": 0.5,
        "target_modules": ("in_proj",),
        "exclude_modules": ("x_proj",),
        "rank_stabilised": True,
    }
    made = [
        lora.apply(FAMILIES["mamba"](), AdapterSettings(preset="e5-mistral", **changed), "large")
        for changed in ({}, {field: other[field]})
    ]
    configs = [model.peft_config["default"].to_dict() for model in made]
    assert configs[0] != configs[1]


def test_auto_is_lora_on_large_pretrained_backbones_and_full_training_of_others():
    assert lora.resolved(AdapterSettings(), "random") == "none"
    assert lora.resolved(AdapterSettings(), "small") == "none"
    assert lora.resolved(AdapterSettings(), "large") == "e5-mistral"


@pytest.mark.parametrize("targets", [["q_proj", "embed_tokens"], ["q_proj", "lm_head"]])
def test_tied_embeddings_are_parted_where_either_is_adapted_also_when_loaded(tmp_path, targets):
    config = LlamaConfig(
        **SIZE, num_attention_heads=2, intermediate_size=32, tie_word_embeddings=True,
        initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    plain = LlamaForCausalLM(config).eval()
    adapted = shaken(add_lora(copy.deepcopy(plain), dropout=0.0, target_modules=targets)).eval()
    wanted = output(adapted)
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    loaded = lora.load_lora(copy.deepcopy(plain), tmp_path).eval()
    assert_close(output(loaded), wanted, tolerances.MODEL_FLOAT32)
    for model in (adapted, loaded):
        assert_close(output(model.merge_and_unload()), wanted, tolerances.MODEL_FLOAT32)
