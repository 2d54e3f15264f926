"""LoRA on every family: alive, merged as unmerged, saved in peft's format."""

import copy
import pickle

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

import longdoc
from longdoc.adapters import lora, placement
from longdoc.adapters.lora import AdapterSettings, add_lora
from longdoc.backbones import MambaForSequenceClassification
from longdoc.backbones.classification import (
    GPTNeoForSequenceClassification,
    LlamaForSequenceClassification,
)
from longdoc.errors import RunError, SettingsError
from longdoc.experiments import space
from longdoc.experiments.settings import Settings
from longdoc.settings import build
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 4}, "adapter.rank must be left out: adapter.preset auto trains every weight of a small"),
        ({"target_modules": ["in_proj"]}, "adapter.target_modules must be left out"),
        ({"preset": "none", "alpha": 4}, "adapter.alpha must be left out: adapter.preset none trains every"),
        ({"preset": "head-only", "dropout": 0.2}, "preset head-only trains the head alone"),
    ],
)  # fmt: skip
def test_a_number_of_an_adapter_that_is_not_there_is_refused(options, words, tmp_path):
    values = {"data": {"dataset": "examples/letters.jsonl"}, "backbone": {"name": "mamba-mini"}}
    with pytest.raises(SettingsError, match=words):
        build(Settings, {**values, "adapter": options}).check_used()
    with pytest.raises(SettingsError, match="must be left out"):
        longdoc.train({**values, "adapter": options}, output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_number_of_an_adapter_that_is_there_is_looked_at():
    for backbone, adapter in (
        ({"name": "mamba-mini"}, {"preset": "e5-mistral", "rank": 4}),
        ({"name": "mamba-130m"}, {"rank": 4}),
        ({"name": "some/checkpoint"}, {"rank": 4}),
        ({"name": "mamba-mini"}, {"preset": "none"}),
    ):
        build(Settings, {"backbone": backbone, "adapter": adapter}).check_used()
    with pytest.raises(SettingsError, match="of a backbone of random weights"):
        build(
            Settings,
            {"backbone": {"name": "mamba-130m", "pretrained": False}, "adapter": {"rank": 4}},
        ).check_used()


def test_a_sweep_over_numbers_of_no_adapter_is_refused():
    small = {"backbone": {"name": "mamba-mini"}}
    ranks = {"space": {"adapter.rank": [4, 8]}}
    with pytest.raises(SettingsError, match=r"space\.adapter\.rank, 4: adapter\.rank must be left"):
        space.make({**ranks, "settings": small})
    space.make({**ranks, "settings": {**small, "adapter": {"preset": "e5-mistral"}}})
    both = {"adapter.rank": [4, 8], "adapter.preset": ["none", "e5-mistral"]}
    space.make({"space": both, "settings": small})


def test_a_second_adapter_can_be_added_to_a_mamba_and_read_back(tmp_path):
    torch.manual_seed(0)
    ids = torch.randint(1, 60, (2, 7))
    wrapped = add_lora(MambaForSequenceClassification(MAMBA), rank=2).eval()
    plain = wrapped(ids).logits
    wrapped.add_adapter("other", wrapped.peft_config["default"])
    wrapped.eval().set_adapter("other")
    for name, part in wrapped.named_parameters():
        if "lora_B.other" in name:
            nn.init.normal_(part)
    other = wrapped(ids).logits
    assert (other - plain).abs().max() > 1e-3
    wrapped.set_adapter("default")
    assert_close(wrapped(ids).logits, plain, tolerances.MODEL_FLOAT32)
    wrapped.save_pretrained(tmp_path)
    wrapped.load_adapter(str(tmp_path / "other"), "again")
    wrapped.set_adapter("again")
    assert_close(wrapped.eval()(ids).logits, other, tolerances.MODEL_FLOAT32)


def test_a_model_with_adapters_is_copied_and_pickled_whole():
    wrapped = add_lora(MambaForSequenceClassification(MAMBA), rank=2).eval()
    ids = torch.randint(1, 60, (2, 7))
    wanted = wrapped(ids).logits
    for other in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        other.add_adapter("other", other.peft_config["default"])
        other.set_adapter("other")
        assert set(other.peft_config) == {"default", "other"}
        assert set(wrapped.peft_config) == {"default"}
        other.set_adapter("default")
        assert_close(other.eval()(ids).logits, wanted, tolerances.MODEL_FLOAT32)


def test_adapters_of_a_mamba_are_put_together():
    torch.manual_seed(0)
    config = MambaConfig(**SIZE, state_size=4)
    wrapped = add_lora(MambaForCausalLM(config), rank=2).eval()
    wrapped.add_adapter("other", wrapped.peft_config["default"])
    wrapped.add_weighted_adapter(["default", "other"], [0.5, 0.5], "both", combination_type="cat")
    wrapped.set_adapter("both")
    assert wrapped.active_adapters == ["both"]


def test_a_name_that_the_head_has_too_goes_to_the_backbone():
    wrapped = add_lora(BertForSequenceClassification(BERT), rank=2, target_modules=["dense"])
    names = {name for name, _ in wrapped.named_modules() if name.endswith("lora_A")}
    assert len(names) == 6
    assert not any("pooler" in name for name in names)
    add_lora(MambaForSequenceClassification(MAMBA), rank=2, target_modules=["x_proj", "score"],
             exclude_modules=["score"])  # fmt: skip


@pytest.mark.parametrize("targets", [["score"], ["x_proj", "score"]])
def test_an_adapter_on_the_head_is_refused_in_a_sentence(targets):
    with pytest.raises(SettingsError, match=r"score is trained in full.*got 'score'"):
        add_lora(MambaForSequenceClassification(MAMBA), target_modules=targets)
