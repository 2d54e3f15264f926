"""Which projections of a family an adapter wraps."""

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import nn

from longdoc.errors import SettingsError, nearest

Preset = Literal["auto", "e5-mistral", "original-notes", "none", "head-only"]

ALL_LINEAR: Mapping[str, tuple[str, ...]] = {
    "mamba": ("in_proj", "x_proj", "dt_proj", "out_proj"),
    "gpt_neo": ("q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"),
    "bert": ("query", "key", "value", "intermediate.dense", "output.dense"),
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
"""Every linear layer of a block: what e5-mistral adapts (wang2024e5mistral, App. A)."""

ORIGINAL_NOTES: Mapping[str, tuple[str, ...]] = {
    **ALL_LINEAR,
    "mamba": ("x_proj", "embeddings", "in_proj", "out_proj"),
}
"""The placement of the student's notes, which speak of Mamba only."""

HEADS: Mapping[str, tuple[str, ...]] = {
    "mamba": ("score",),
    "gpt_neo": ("score",),
    "llama": ("score",),
    "bert": ("pooler", "classifier"),
}
"""What stands on top of a backbone and is always trained in full."""


def targets(preset: Preset, family: str) -> tuple[str, ...]:
    """Give the modules that a preset wraps in a family."""
    table = ORIGINAL_NOTES if preset == "original-notes" else ALL_LINEAR
    return table[family]


def matching(model: nn.Module, target: str) -> list[str]:
    """List the linear layers and embeddings whose name ends with ``target``."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Embedding)
        and (name == target or name.endswith("." + target))
    ]


def check_targets(model: nn.Module, names: Iterable[str], left_out: Iterable[str] = ()) -> None:
    """Refuse a target that matches nothing, and leaving everything out.

    Args:
        model: In which modules are looked for.
        names: Ends of names of those that an adapter is to wrap.
        left_out: Ends of names of those that it is not to wrap after all.

    Raises:
        SettingsError: With the names there are.
    """
    wanted, spared = (
        {module for name in ends for module in _matching(model, name, setting)}
        for setting, ends in (("target_modules", names), ("exclude_modules", left_out))
    )
    if not wanted - spared:
        message = "adapter.exclude_modules leaves nothing of adapter.target_modules"
        raise SettingsError(message)


def _matching(model: nn.Module, name: str, setting: str) -> list[str]:
    found = matching(model, name)
    if not found:
        kinds = (nn.Linear, nn.Embedding)
        known = {n.split(".")[-1] for n, m in model.named_modules() if isinstance(m, kinds)}
        hint = nearest(name, sorted(known))
        message = f"adapter.{setting}: no module named {name!r}; {hint}"
        raise SettingsError(message)
    return found
