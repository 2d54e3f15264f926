"""transformers' own models on our kernels: the same numbers, and theirs again afterwards."""

import importlib

import pytest
import torch
from transformers import (
    FalconMambaConfig,
    FalconMambaModel,
    JambaConfig,
    JambaModel,
    MambaConfig,
    MambaModel,
)

from longdoc.kernels import use_in_transformers
from tests.assertions import assert_close

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2}
MODELS = {
    "mamba": lambda: MambaModel(MambaConfig(**SMALL)),
    "falcon_mamba": lambda: FalconMambaModel(FalconMambaConfig(**SMALL)),
    "jamba": lambda: JambaModel(
        JambaConfig(
            **SMALL, num_attention_heads=2, num_key_value_heads=2, intermediate_size=32,
            attn_layer_period=2, attn_layer_offset=1, expert_layer_period=9, expert_layer_offset=8,
            use_mamba_kernels=False,
        )
    ),
}  # fmt: skip


def outcome(model, ids):
    model.zero_grad()
    states = model(input_ids=ids, use_cache=False).last_hidden_state
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"states": states.detach(), **gradients}


@pytest.mark.parametrize("family", list(MODELS))
def test_transformers_models_give_the_same_states_and_gradients(family):
    torch.manual_seed(0)
    model, ids = MODELS[family]().eval(), torch.randint(0, 50, (2, 40))
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    before = (module.mamba_selective_scan, module.causal_conv1d_fn)
    wanted = outcome(model, ids)
    with use_in_transformers():
        assert module.mamba_selective_scan is not before[0]
        found = outcome(model, ids)
    assert (module.mamba_selective_scan, module.causal_conv1d_fn) == before
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert_close(found[name], value, 1e-5, name)


def test_using_it_twice_is_undone_by_the_first():
    module = importlib.import_module("transformers.models.mamba.modeling_mamba")
    before = module.mamba_selective_scan
    first, second = use_in_transformers(), use_in_transformers()
    second.undo()
    assert module.mamba_selective_scan is not before
    first.undo()
    first.undo()
    assert module.mamba_selective_scan is before


def test_a_handle_that_is_entered_again_replaces_again():
    module = importlib.import_module("transformers.models.mamba.modeling_mamba")
    theirs = module.mamba_selective_scan
    handle = use_in_transformers()
    for _ in range(3):
        with handle:
            assert module.mamba_selective_scan is not theirs
        assert module.mamba_selective_scan is theirs
