"""A Mamba layer is computed again on the way back: with what it was computed first."""

import peft
import pytest
import torch

from longdoc.adapters.lora import add_lora
from longdoc.backbones import MambaForSequenceClassification
from tests.backbones import tiny


def step_of(model, ids):
    model.zero_grad()
    loss = model(ids).logits.square().sum()
    return loss, [part for part in model.parameters() if part.requires_grad]


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
