"""A run's model: built from settings, saved with the run, loaded again."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from longdoc.adapters import lora
from longdoc.backbones import build as backbones
from longdoc.backbones import checkpoints
from longdoc.backbones.catalog import FAMILIES, BackboneCard
from longdoc.backbones.linear import use_fast_linears
from longdoc.documents.document import Kind
from longdoc.errors import RunError
from longdoc.experiments import store
from longdoc.experiments.settings import Settings
from longdoc.tokens.encoding import add_special_tokens
from longdoc.training import settings as training

BASE = "base.json"
"""Which checkpoint an adapter or a head belongs to."""
HEAD = "head.safetensors"


def peak_rates(settings: Settings, card: BackboneCard) -> tuple[float, float | None]:
    """Give the learning rate that the settings come to, and the head's if it is another."""
    start = backbones.start(card, settings.backbone)
    preset = lora.resolved(settings.adapter, start)
    one_layer = backbones.pooling(card, settings.backbone) != "first"
    rate = training.learning_rate(settings.training, preset, start, card.family)
    return rate, training.head_rate(settings.training, preset, start, one_layer=one_layer)


def build_model(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str], kind: Kind
) -> tuple[Any, backbones.Built]:
    """Build the model that is trained: backbone, head, adapter.

    Args:
        settings: Everything.
        tokenizer: The backbone's.
        labels: The corpus' labels.
        kind: The corpus' kind.
    """
    built = _classifier(settings, tokenizer, labels, kind)
    with torch.random.fork_rng():
        torch.manual_seed(settings.training.seed)
        start = backbones.start(built.card, settings.backbone)
        model = lora.apply(built.model, settings.adapter, start)
    return model, built


def _classifier(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str], kind: Kind
) -> backbones.Built:
    return backbones.build(
        settings.backbone,
        tokenizer,
        labels=labels,
        kind=kind,
        max_tokens=settings.tokens.max_tokens,
        seed=settings.training.seed,
    )


def save_model(
    model: Any,
    settings: Settings,
    card: BackboneCard,
    folder: Path,
) -> None:
    """Save weights: the adapter in peft's own format, the head alone, or the whole model.

    What was trained on a checkpoint is saved with the identity of that checkpoint; an adapter on
    weights that started at random has the backbone saved beside it.
    """
    fresh_weights = backbones.starts_at_random(card, settings.backbone)
    head = {name: part.detach() for name, part in model.named_parameters() if part.requires_grad}
    frozen = len(head) < len(list(model.parameters()))
    if frozen and not fresh_weights and not hasattr(model, "peft_config"):
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: part.contiguous() for name, part in head.items()}, folder / HEAD)
        store.write_json(folder / BASE, checkpoints.identity(card, settings.backbone))
        return
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder / "adapter")
        if not fresh_weights:
            store.write_json(folder / BASE, checkpoints.identity(card, settings.backbone))
            return
        with torch.no_grad():
            fresh = backbones.CLASSIFIERS[card.family](model.get_base_model().config)
        names = set(fresh.state_dict())
        kept = {
            name.replace(".base_layer", "").replace("original_module.", ""): tensor
            for name, tensor in model.get_base_model().state_dict().items()
            if "lora_" not in name and "modules_to_save" not in name
        }
        fresh.load_state_dict({n: t for n, t in kept.items() if n in names}, strict=False)
        fresh.save_pretrained(folder / "weights")
        return
    model.save_pretrained(folder / "weights")


def keep_checkpoint(folder: Path, settings: Settings, card: BackboneCard) -> None:
    """Note which weights a training starts from, where they are a local folder's."""
    if Path(card.checkpoint).is_dir() and not backbones.starts_at_random(card, settings.backbone):
        store.write_json(folder / BASE, checkpoints.identity(card, settings.backbone))


def check_checkpoint(folder: Path, settings: Settings) -> None:
    """Refuse to go on with, or to give out, what was trained on other weights of the same name.

    Args:
        folder: A run's, which may have runs of folds in it.
        settings: The run's.

    Raises:
        RunError: The folder that ``backbone.name`` names has other weights now.
    """
    checkpoint = Path(settings.backbone.name)
    there = (checkpoint / "config.json").exists() and any(checkpoint.glob("*.safetensors"))
    noted = [f for place in ("model", "folds/*/model") for f in folder.glob(f"{place}/{BASE}")]
    if not noted or not there:
        return  # weights that are no longer there say nothing
    now = checkpoints.identity(backbones.resolve(settings.backbone), settings.backbone)
    if any(json.loads(file.read_text(encoding="utf-8")) != now for file in noted):
        message = (
            f"{folder} was trained on other weights than {settings.backbone.name} has now; "
            f"move it away"
        )
        raise RunError(message)


def load_model(run: store.Run) -> tuple[Any, PreTrainedTokenizerBase, bool]:
    """Load a run's trained model, its tokenizer, and whether it is causal.

    Raises:
        RunError: The run has no backbone.
        LongdocError: An adapter's checkpoint can no longer be had.
    """
    if run.settings.has_no_backbone() or run.settings.is_cross_fitted():
        message = (
            f"{run.folder} is a baseline, an ensemble or a system of several folds, "
            f"without a backbone of its own"
        )
        raise RunError(message)
    folder = run.folder / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    place = (folder, run.settings, tokenizer, run.data["labels"], run.data["kind"])
    loaded = load_saved(*place)
    # One that an earlier version saved does not say how training framed texts.
    add_special_tokens(loaded[1], run.settings.tokens, causal=loaded[2])
    return loaded


def load_saved(
    folder: Path,
    settings: Settings,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    kind: Kind,
) -> tuple[Any, PreTrainedTokenizerBase, bool]:
    """Load what :func:`save_model` wrote; where whole weights were saved, from these alone.

    Raises:
        RunError: The checkpoint under an adapter is another one than it was trained on.
        LongdocError: That checkpoint can no longer be had.
    """
    if (folder / "weights").exists():
        family = AutoConfig.from_pretrained(folder / "weights").model_type
        classifier = backbones.CLASSIFIERS[family]
        model = classifier.from_pretrained(folder / "weights", use_safetensors=True)
        use_fast_linears(model)
    else:
        model = _classifier(_pinned(settings, folder), tokenizer, labels, kind).model
        family = model.config.model_type
    if (folder / HEAD).exists():
        _put_head(model, folder / HEAD)
    if (folder / "adapter").exists():
        model = lora.load_lora(model, folder / "adapter")
    return model.eval(), tokenizer, FAMILIES[family]


def _pinned(settings: Settings, folder: Path) -> Settings:
    """Have the checkpoint under an adapter be the very one it was trained on."""
    if not (folder / BASE).exists():
        return settings
    kept = json.loads((folder / BASE).read_text(encoding="utf-8"))
    if "commit" in kept:
        backbone = replace(settings.backbone, revision=kept["commit"] or settings.backbone.revision)
        return replace(settings, backbone=backbone)
    now = checkpoints.identity(backbones.resolve(settings.backbone), settings.backbone)
    if kept != now:
        message = (
            f"what is in {folder} was trained on {kept['checkpoint']} with weights of SHA-256 "
            f"{kept['sha256']}; what is there now has {now['sha256']}"
        )
        raise RunError(message)
    return settings


def _put_head(model: Any, file: Path) -> None:
    """Put a saved head onto its backbone.

    Raises:
        RunError: The file is damaged, or holds what the model has not.
    """
    try:
        unknown = model.load_state_dict(load_file(file), strict=False).unexpected_keys
    except (OSError, SafetensorError, RuntimeError) as error:
        message = f"{file} is damaged, or of another backbone: {error}"
        raise RunError(message) from error
    if unknown:
        message = f"{file}: {', '.join(unknown[:3])} belong to another backbone"
        raise RunError(message)
