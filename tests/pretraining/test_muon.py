"""Muon for matrices and AdamW for the rest: which is which, and that both are torch's own."""

import copy
import io

import pytest
import torch
from torch import nn

from longdoc.backbones.catalog import BACKBONES
from longdoc.pretraining import models
from longdoc.pretraining.muon import MuonWithAdamW, matrices


def language_model(name):
    torch.manual_seed(0)
    card = BACKBONES[name]
    return models.MODELS[card.family](card.make(300))


def optimizer(model, **changes):
    decays = [name for name, weight in model.named_parameters() if weight.dim() > 1]
    given = {"matrix_rate": 0.02, "rate": 1e-3, "weight_decay": 0.1, "betas": (0.9, 0.95)}
    return MuonWithAdamW(model, **{**given, "decays": decays, **changes})


def learn(model, trained, steps, first=0):
    for step in range(first, first + steps):
        torch.manual_seed(step)
        for weight in model.parameters():
            weight.grad = torch.randn_like(weight)
        trained.step()
        trained.zero_grad()


@pytest.mark.parametrize("name", ["mamba-mini", "gpt-neo-mini", "bert-mini"])
def test_matrices_are_the_linear_layers_without_embeddings(name):
    model = language_model(name)
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {names[id(weight)] for weight in matrices(model)}
    assert found
    assert not any("emb" in n or "wte" in n or "wpe" in n or "decoder" in n for n in found)
    assert not any(n.endswith(("A_log", "conv1d.weight", "bias", "norm.weight")) for n in found)
    layers = [n for n in names.values() if n.endswith(("proj.weight", "dense.weight"))]
    assert {n for n in layers if "pooler" not in n} <= found


@pytest.mark.parametrize("name", ["mamba-mini", "gpt-neo-mini", "bert-mini"])
def test_every_weight_is_trained_once(name):
    model = language_model(name)
    next(model.parameters()).requires_grad_(False)
    trained = [id(w) for group in optimizer(model).param_groups for w in group["params"]]
    assert sorted(trained) == sorted(id(w) for w in model.parameters() if w.requires_grad)


def test_both_do_as_torch_does():
    together = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 5), nn.LayerNorm(5))
    apart = copy.deepcopy(together)
    decays = ["0.weight", "1.weight"]
    learn(together, optimizer(together, decays=decays), 3)
    muon = torch.optim.Muon([apart[1].weight], lr=0.02, weight_decay=0.1, adjust_lr_fn="original")
    adamw = torch.optim.AdamW(
        [{"params": [apart[0].weight], "weight_decay": 0.1},
         {"params": [apart[1].bias, *apart[2].parameters()], "weight_decay": 0.0}],
        lr=1e-3, betas=(0.9, 0.95),
    )  # fmt: skip
    for step in range(3):
        torch.manual_seed(step)
        for weight in apart.parameters():
            weight.grad = torch.randn_like(weight)
        muon.step()
        adamw.step()
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_goes_on_from_its_state_under_a_schedule():
    def begun():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4))
        trained = optimizer(model)
        return model, trained, torch.optim.lr_scheduler.LambdaLR(trained, lambda n: 1 / (1 + n))

    def run(model, trained, schedule, first):
        for step in range(first, first + 3):
            learn(model, trained, 1, step)
            schedule.step()

    whole, cut = begun(), begun()
    run(*whole, 0)
    run(*whole, 3)
    run(*cut, 0)
    kept = io.BytesIO()
    torch.save([part.state_dict() for part in cut], kept)
    again = begun()
    kept.seek(0)
    for part, state in zip(again, torch.load(kept), strict=True):
        part.load_state_dict(state)
    run(*again, 3)
    assert [g["lr"] for g in again[1].param_groups] == [g["lr"] for g in whole[1].param_groups]
    for one, other in zip(whole[0].parameters(), again[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_without_linear_layers_there_is_adamw():
    model = nn.LayerNorm(3)
    before = model.weight.detach().clone()
    learn(model, optimizer(model), 1)
    assert not torch.equal(before, model.weight)
