"""LoRA through peft on every family, also where peft alone refuses or silently does nothing."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import peft
import torch
from peft.tuners import tuners_utils
from torch import Tensor, nn
from transformers import PreTrainedModel

from longdoc.adapters import placement
from longdoc.adapters.fused import use_fused_lora
from longdoc.adapters.placement import Preset
from longdoc.backbones.build import Start
from longdoc.backbones.catalog import FAMILIES
from longdoc.backbones.linear import use_fast_linears
from longdoc.backbones.mamba import ModularMambaMixer, use_modular_mixers
from longdoc.errors import RunError, SettingsError
from longdoc.settings import changes, chosen, cited, require


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """What is trained: the whole backbone, an adapter in it, or the head alone."""

    preset: Preset = chosen(
        "auto",
        "an adapter adapts what a model knows, and one with random weights knows nothing; it saves "
        "memory, and a small one needs little: docs/results/pretraining.md",
    )
    """e5-mistral: LoRA on all linear layers. original-notes: LoRA where the student's notes put it.
    none: every weight is trained. head-only: the classifier alone. auto: e5-mistral for pretrained
    weights of a backbone wider than 256, none for a smaller one or random weights."""
    rank: int = cited(16, "wang2024e5mistral", "Sec. 4.2", unit="dimensions")
    """r, the rank of the update B A that is added to a frozen weight: how much it can say."""
    alpha: float = cited(
        32.0,
        "wang2024e5mistral",
        "lora/adapter_config.json of the published model",
        note="the factor is explained in hu2022lora, Sec. 4.1",
    )
    """The update is multiplied by alpha / r; with Adam, tuning alpha is much like tuning the
    learning rate."""
    dropout: float = cited(
        0.1,
        "wang2024e5mistral",
        "lora/adapter_config.json of the published model",
        unit="probability",
    )
    """How often an input of the update is set to zero in training."""
    target_modules: tuple[str, ...] | None = chosen(None, "those of the preset")
    """Which modules the update is added to, by the end of their names."""
    exclude_modules: tuple[str, ...] | None = chosen(None, "none of them")
    """Which of these it is not added to after all, by the end of their names."""
    rank_stabilised: bool = chosen(
        False,
        "the recipes followed here have alpha / r, which slows learning at higher ranks "
        "(kalajdzievski2023rslora, abstract)",
    )
    """Multiply by alpha / sqrt(r) instead of alpha / r."""

    def __post_init__(self) -> None:
        check_numbers(self.rank, self.alpha, self.dropout)


def check_numbers(rank: int, alpha: float, dropout: float) -> None:
    """Refuse numbers out of range.

    Raises:
        SettingsError: Naming the setting, what is allowed, and what was given.
    """
    require(rank >= 1, "adapter.rank", "at least 1", rank)
    require(alpha > 0, "adapter.alpha", "above 0", alpha)
    require(0 <= dropout < 1, "adapter.dropout", "in 0..1, 1 excluded", dropout)


@contextlib.contextmanager
def _mamba_projections_allowed(model: nn.Module) -> Iterator[None]:
    """Lift peft's refusal of Mamba's out_proj where every mixer calls its projections.

    peft guards against mixers that read weights past their modules; ours do not.
    """
    if not any(isinstance(module, ModularMambaMixer) for module in model.modules()):
        yield
        return
    guard = "_check_lora_target_modules_mamba"
    if not hasattr(tuners_utils, guard):
        yield
        return
    with mock.patch.object(tuners_utils, guard, return_value=None):
        yield


OTHER_HEADS = ("score", "classifier", "pre_classifier", "pooler")
"""What transformers' classifiers of other families have on top."""


def add_lora(
    model: PreTrainedModel,
    rank: int = 16,
    alpha: float = 32,
    dropout: float = 0.1,
    target_modules: Sequence[str] | None = None,
    rank_stabilised: bool = False,
    exclude_modules: Sequence[str] | None = None,
) -> Any:
    """Add LoRA to a Mamba, GPT-Neo, BERT or Llama model, longdoc's own or transformers'.

    Args:
        model: Its Mamba mixers are changed in place to call every projection as a module.
        rank: r.
        alpha: The update is multiplied by alpha / r.
        dropout: On the update's input.
        target_modules: Ends of module names; all linear layers of the blocks without.
        rank_stabilised: Multiply by alpha / sqrt(r) instead.
        exclude_modules: Ends of names of modules that are left as they are after all.

    Returns:
        A peft model, with ``merge_and_unload()``, ``save_pretrained()`` and all; the classifier,
        if there is one, is trained in full.

    Raises:
        SettingsError: A number is out of range, or a target matches no module.

    Source:
        hu2022lora, Sec. 4.1.
    """
    check_numbers(rank, alpha, dropout)
    family = model.config.model_type
    if family not in FAMILIES and not target_modules:
        message = (
            f"which modules of a {family!r} LoRA goes to must be said (target_modules); "
            f"known are those of {', '.join(FAMILIES)}"
        )
        raise SettingsError(message)
    if isinstance(target_modules, str) or isinstance(exclude_modules, str):
        message = "target_modules and exclude_modules must be lists of ends of names; got one text"
        raise SettingsError(message)
    use_fast_linears(use_modular_mixers(model))
    names = list(target_modules or placement.targets("e5-mistral", family))
    left_out = list(exclude_modules or ())
    placement.check_targets(model, names, left_out)
    _untie(model, names)
    tops = [name.split(".")[-1] for name, _ in model.named_modules()]
    head = [name for name in placement.HEADS.get(family, OTHER_HEADS) if name in tops]
    classifies = bool({"score", "classifier"} & set(head))
    if classifies:
        _check_no_head(model, names, left_out, head)
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # a float serves as well
        lora_dropout=dropout,
        target_modules=names,
        exclude_modules=left_out or None,
        use_rslora=rank_stabilised,
        task_type=peft.TaskType.SEQ_CLS if classifies else None,
        modules_to_save=head if classifies else None,
    )
    with _mamba_projections_allowed(model):
        return _ready(peft.get_peft_model(model, config))


def load_lora(model: PreTrainedModel, folder: Path) -> Any:
    """Put a saved adapter, in peft's own format, back onto its model."""
    use_modular_mixers(model)
    targets = peft.PeftConfig.from_pretrained(str(folder)).target_modules
    if targets and not isinstance(targets, str):
        _untie(model, sorted(targets))
    with _mamba_projections_allowed(model):
        loaded = peft.PeftModel.from_pretrained(model, str(folder), is_trainable=False)
    return _ready(loaded)


class _TakesMore(peft.PeftModel):
    """A peft model that takes further adapters as it took the first, also on Mamba."""

    def add_adapter(self, *given: Any, **named: Any) -> Any:
        """Add an adapter; arguments are peft's."""
        return self._add(super().add_adapter, given, named)

    def load_adapter(self, *given: Any, **named: Any) -> Any:
        """Read an adapter; arguments are peft's."""
        return self._add(super().load_adapter, given, named)

    def add_weighted_adapter(self, *given: Any, **named: Any) -> Any:
        """Make an adapter of others; arguments are peft's."""
        base: Any = self.base_model
        return self._add(base.add_weighted_adapter, given, named)

    def _add(self, add: Callable[..., Any], given: Sequence[Any], named: Mapping[str, Any]) -> Any:
        with _mamba_projections_allowed(self):
            found = add(*given, **named)
        use_fused_lora(use_fast_linears(self))
        return found


class LoraModel(_TakesMore):
    """peft's model without a head."""


class LoraModelForSequenceClassification(_TakesMore, peft.PeftModelForSequenceClassification):
    """peft's classifier."""


OURS = {
    peft.PeftModel: LoraModel,
    peft.PeftModelForSequenceClassification: LoraModelForSequenceClassification,
}


def _ready(wrapped: Any) -> Any:
    """Make a peft model fast, and let it take further adapters."""
    # By class: what is put on an instance would follow neither deepcopy nor pickle.
    wrapped.__class__ = OURS.get(type(wrapped), type(wrapped))
    return use_fused_lora(use_fast_linears(wrapped))


def _check_no_head(
    model: nn.Module, names: Sequence[str], left_out: Sequence[str], head: Sequence[str]
) -> None:
    """Refuse a target that names nothing but what is trained in full."""
    excluded = {module for name in left_out for module in placement.matching(model, name)}
    for name in names:
        matched = set(placement.matching(model, name)) - excluded
        if matched and all(set(module.split(".")) & set(head) for module in matched):
            message = (
                f"target_modules must be modules of the backbone: {', '.join(head)} is trained "
                f"in full beside the adapter; got {name!r}"
            )
            raise SettingsError(message)


def _untie(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Part output from input embeddings, so that merging an update of one spares the other."""
    inputs: Any = model.get_input_embeddings()
    outputs: Any = model.get_output_embeddings()
    if outputs is None or outputs.weight is not inputs.weight:
        return
    adapted = [model.get_submodule(m) for n in names for m in placement.matching(model, n)]
    if any(module is inputs or module is outputs for module in adapted):
        outputs.weight = nn.Parameter(outputs.weight.detach().clone())
        model.config.tie_word_embeddings = False


def apply(model: PreTrainedModel, settings: AdapterSettings, start: Start) -> Any:
    """Make a model trainable as the settings say.

    Args:
        model: A classifier.
        settings: Preset and LoRA's numbers.
        start: What training starts from, for ``auto``.

    Returns:
        The model itself, or a peft model around it.
    """
    preset = resolved(settings, start)
    family = model.config.model_type
    if preset == "none":
        return model
    if preset == "head-only":
        for name, parameter in model.named_parameters():
            parameter.requires_grad = any(
                part in placement.HEADS[family] for part in name.split(".")
            )
        return model
    wrapped = add_lora(
        model,
        settings.rank,
        settings.alpha,
        settings.dropout,
        settings.target_modules or placement.targets(preset, family),
        settings.rank_stabilised,
        settings.exclude_modules,
    )
    # longdoc never resizes a vocabulary; peft's "auto" asks the hub at every checkpoint.
    wrapped.save_pretrained = functools.partial(
        wrapped.save_pretrained, save_embedding_layers=False
    )
    return wrapped


def resolved(settings: AdapterSettings, start: Start) -> Preset:
    """Say which preset ``auto`` stands for."""
    if settings.preset != "auto":
        return settings.preset
    return "e5-mistral" if start == "large" else "none"


def check_used(settings: AdapterSettings, start: Start) -> None:
    """Refuse numbers of an adapter where there is none.

    Raises:
        SettingsError: Naming the setting, and what is trained instead.

    Example:
        >>> check_used(AdapterSettings(rank=4), "small")
        Traceback (most recent call last):
        ...
        longdoc.errors.SettingsError: adapter.rank must be left out: adapter.preset auto trains \
every weight of a small backbone (e5-mistral and original-notes add an adapter); got 4
    """
    if resolved(settings, start) not in ("none", "head-only"):
        return
    what = f"adapter.preset {settings.preset} trains every weight"
    if settings.preset == "auto":
        sort = "a small backbone" if start == "small" else "a backbone of random weights"
        what += f" of {sort}"
    elif settings.preset == "head-only":
        what = "adapter.preset head-only trains the head alone"
    for name, value in changes(settings).items():
        allowed = f"left out: {what} (e5-mistral and original-notes add an adapter)"
        require(name == "preset", f"adapter.{name}", allowed, value)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Count trainable and all parameters."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


def adapter_tensors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Give every tensor of the adapters by name."""
    return {name: part for name, part in model.named_parameters() if "lora_" in name}


def check_alive(model: nn.Module, batch: Mapping[str, Tensor]) -> None:
    """Refuse to train adapters that have no effect.

    One forward and backward pass with the adapters set to small random numbers (a fresh adapter's
    first matrix has no gradient, because the second is zero). Everything is put back afterwards.

    Args:
        model: A peft model; one without adapters passes.
        batch: ``input_ids`` and ``attention_mask`` of a few documents.

    Raises:
        RunError: Naming every tensor without a gradient.
    """
    tensors = adapter_tensors(model)
    if not tensors:
        return
    kept = {name: part.detach().clone() for name, part in tensors.items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with torch.no_grad():
            for part in tensors.values():
                part.normal_(std=0.02)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        logits.square().sum().backward()
    dead = [n for n, part in tensors.items() if part.grad is None or not part.grad.abs().sum() > 0]
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, part in tensors.items():
            part.copy_(kept[name])
    if dead:
        shown = ", ".join(dead[:3])
        message = (
            f"{len(dead)} of {len(tensors)} adapter tensors have no effect on the result: {shown}"
        )
        raise RunError(message)
