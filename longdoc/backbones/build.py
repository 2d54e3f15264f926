"""A backbone's name to a model ready for training, and to its tokenizer."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from longdoc.backbones import hub, loading
from longdoc.backbones.bert import BertForSequenceClassification
from longdoc.backbones.catalog import BACKBONES, FAMILIES, BackboneCard
from longdoc.backbones.checkpoints import shipped_folder, weights_file
from longdoc.backbones.classification import (
    GPTNeoForSequenceClassification,
    LlamaForSequenceClassification,
)
from longdoc.backbones.dropout import use_fast_dropouts
from longdoc.backbones.linear import use_fast_linears
from longdoc.backbones.mamba import MambaForSequenceClassification
from longdoc.backbones.positions import extend_positions
from longdoc.backbones.settings import ATTENTION_DROPOUT, BackboneSettings
from longdoc.documents.document import Kind
from longdoc.errors import SettingsError, nearest
from longdoc.settings import require

Start = Literal["random", "small", "large"]
"""Random weights, or those of a small or a large pretrained backbone."""
SMALL_WIDTH = 256
"""Ours are 192 wide; the next that was tried, minilm-l6, is 384 and large."""

CLASSIFIERS: Mapping[str, Any] = {
    "mamba": MambaForSequenceClassification,
    "gpt_neo": GPTNeoForSequenceClassification,
    "llama": LlamaForSequenceClassification,
    "bert": BertForSequenceClassification,
}


@dataclass(frozen=True)
class Built:
    """A model with what a run records about it."""

    model: PreTrainedModel
    card: BackboneCard
    notes: dict[str, object]


def start(card: BackboneCard, settings: BackboneSettings) -> Start:
    """Say what training starts from, on which depends what is trained, and at which rate."""
    if starts_at_random(card, settings):
        return "random"
    return "small" if card.width <= SMALL_WIDTH else "large"


def starts_at_random(card: BackboneCard, settings: BackboneSettings) -> bool:
    """Say whether a backbone starts from random weights: as asked for, or for want of others."""
    return not (settings.pretrained and card.has_weights)


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
        with hub.asked_only_if_reachable(settings.name):
            config = AutoConfig.from_pretrained(settings.name, revision=settings.revision)
    except (OSError, ValueError, KeyError) as error:
        if (Path(settings.name) / "config.json").is_file():
            reason = loading.first_line(error)
            message = f"{settings.name}: its config.json cannot be read: {reason}"
            raise SettingsError(message) from error
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
        takes_mean=config.model_type == "bert" and _takes_mean(config, Path(settings.name)),
        checkpoint=settings.name,
    )


def _takes_mean(config: PreTrainedConfig, folder: Path) -> bool:
    return getattr(config, "pooling", "") == "mean" or not loading.has_pooler(folder)


def check_name(settings: BackboneSettings) -> None:
    """Refuse a backbone that is known to be wrong before any hub is asked.

    Raises:
        SettingsError: As :func:`resolve`.
    """
    if is_here(settings) or _is_slip(settings.name):
        resolve(settings)


def is_here(settings: BackboneSettings) -> bool:
    """Say whether what a backbone is can be said without asking a hub."""
    return settings.name in BACKBONES or Path(settings.name).is_dir()


def _is_slip(name: str) -> bool:
    """Say whether a catalogue name was meant; asking in vain for a hub takes half a minute."""
    close = difflib.get_close_matches(name, BACKBONES, n=1, cutoff=0.75)
    return "/" not in name and not Path(name).is_dir() and bool(close)


def load_tokenizer(
    card: BackboneCard,
    settings: BackboneSettings,
    train: Callable[[], PreTrainedTokenizerBase],
) -> PreTrainedTokenizerBase:
    """Give a backbone's own tokenizer, or train one for a small one that starts at random.

    Args:
        card: The backbone.
        settings: Whether its weights are used, and which revision.
        train: Trains a tokenizer on the training texts.
    """
    if card.make is not None and starts_at_random(card, settings):
        return train()
    return own_tokenizer(card, settings)


def own_tokenizer(card: BackboneCard, settings: BackboneSettings) -> PreTrainedTokenizerBase:
    """Give the tokenizer that a backbone's weights were made with."""
    if card.package is not None:
        folder = shipped_folder(card)
        file = weights_file(folder)
        if file.suffix == ".gguf":
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        vectors = len(tokenizer)
    else:
        tokenizer = loading.translated(
            lambda: AutoTokenizer.from_pretrained(card.checkpoint, revision=settings.revision),
            card.checkpoint,
            "a tokenizer",
        )
        loading.check_tokenizer(tokenizer, card.checkpoint)
        with hub.asked_only_if_reachable(card.checkpoint):
            config = AutoConfig.from_pretrained(card.checkpoint, revision=settings.revision)
        vectors = config.vocab_size
    loading.settle_padding(tokenizer, vectors)
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
    head = {**head_arguments(labels, kind), **_changes(card, settings)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _make(card, settings, tokenizer, head)
    model.config.pad_token_id = tokenizer.pad_token_id
    before = extend_positions(model, max_tokens)
    use_fast_dropouts(use_fast_linears(model))
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    notes: dict[str, object] = {"from_random_weights": starts_at_random(card, settings)}
    if before is not None:
        notes["positions"] = (
            f"extended from {before} to {max_tokens} by repetition (beltagy2020longformer)"
        )
    return Built(model, card, notes)


def pooling(card: BackboneCard, settings: BackboneSettings) -> str:
    """Say which vector of a document the classifier gets: first, last or mean."""
    return card.pooling if settings.pooling == "auto" else settings.pooling


def _changes(card: BackboneCard, settings: BackboneSettings) -> dict[str, Any]:
    """Say what of a backbone's configuration the settings change.

    Raises:
        SettingsError: Its family has no such thing.
    """
    reads = pooling(card, settings)
    allowed = ("last",) if card.causal else ("first", "mean")
    what = f"{' or '.join(allowed)} for {card.name}"
    require(reads in allowed, "backbone.pooling", what, reads)
    changes: dict[str, Any] = {} if card.causal else {"pooling": reads}
    if settings.attention_dropout is not None:
        name = ATTENTION_DROPOUT.get(card.family)
        has = f"left out for {card.name}, which has no attention"
        rate = settings.attention_dropout
        require(name is not None, "backbone.attention_dropout", has, rate)
        require(0 <= rate < 1, "backbone.attention_dropout", "in 0..1, 1 excluded", rate)
        changes[str(name)] = rate
    return changes


def _make(
    card: BackboneCard,
    settings: BackboneSettings,
    tokenizer: PreTrainedTokenizerBase,
    head: Mapping[str, Any],
) -> PreTrainedModel:
    model: PreTrainedModel = weights(
        CLASSIFIERS[card.family], card, settings, len(tokenizer), **head
    )
    return model


def weights(
    model: Any, card: BackboneCard, settings: BackboneSettings, vocabulary: int, **changes: Any
) -> Any:
    """Give a model with a backbone's weights in it, or with random ones of its shape.

    Args:
        model: A transformers class of the backbone's family; what the backbone has no weights for
            starts at random.
        card: The backbone.
        settings: Whether its weights are used, and which revision.
        vocabulary: Entries of the tokenizer, for a backbone that starts at random.
        **changes: What its configuration says otherwise.

    Raises:
        LongdocError: The weights cannot be had, or are not what the card says.
    """
    if card.make is not None and starts_at_random(card, settings):
        return model(_changed(card.make(vocabulary), changes))
    if card.package is None:
        name, options = card.checkpoint, {"revision": settings.revision}
        found = loading.translated(
            lambda: _load(model, name, settings, vocabulary, changes, options), name, "weights"
        )
    else:
        folder = shipped_folder(card)
        file = weights_file(folder)
        if file.suffix == ".gguf":
            return _from_gguf(model, folder, file.name, settings, changes)
        found = _load(model, folder, settings, vocabulary, changes, {})
    return found


def _load(
    model: Any,
    place: str | Path,
    settings: BackboneSettings,
    vocabulary: int,
    changes: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Any:
    config = _changed(AutoConfig.from_pretrained(place, **options), changes)
    if not settings.pretrained:
        # Its shape, but for a tokenizer that has more entries than its own.
        config.vocab_size = max(config.vocab_size, vocabulary)
        return model(config)
    pooler = settings.pooling == "auto"
    return loading.load(model, place, config, pooler, **options)


def _changed(config: PreTrainedConfig, changes: Mapping[str, Any]) -> PreTrainedConfig:
    for name, value in changes.items():
        setattr(config, name, value)
    config.dtype = torch.float32
    return config


def _from_gguf(
    model: Any, folder: Path, name: str, settings: BackboneSettings, changes: Mapping[str, Any]
) -> Any:
    """Read quantised weights and copy them into a fresh model, which can be saved again."""
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    kept = loaded.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "architectures", "id2label", "label2id"):
        kept.pop(name, None)
    fresh = model(_changed(type(loaded.config)(**kept), changes))
    if settings.pretrained:
        getattr(fresh, fresh.base_model_prefix).load_state_dict(loaded.model.state_dict())
    return fresh
