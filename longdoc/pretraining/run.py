"""One pretraining, from texts to a folder that every command takes as a backbone's name."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from longdoc import environment
from longdoc.backbones import build, checkpoints, hub
from longdoc.backbones.catalog import BackboneCard
from longdoc.documents.document import SPLITS
from longdoc.errors import DataError, SettingsError
from longdoc.kernels.allocator import keep_freed_memory
from longdoc.metrics import cost
from longdoc.pretraining import (
    batches,
    card,
    folders,
    learner,
    models,
    ngram,
    perplexity,
    stream,
    texts,
)
from longdoc.pretraining.batches import Marks
from longdoc.pretraining.settings import PretrainingSettings
from longdoc.pretraining.stream import Stream
from longdoc.progress import Progress, silent
from longdoc.settings import require, to_mapping
from longdoc.tokens import tokenizers
from longdoc.training import workplace

TOKENIZER_CHARACTERS = 30_000_000
"""Of each source, about so many characters train the tokenizer, so that none drowns the others."""
CURVE_TOKENS = 40_000
"""Held-out tokens of each source that are measured on the way."""
COUNTED_TOKENS = 50_000_000
"""Training tokens whose n-grams are counted at most: some eight bytes each, several times over."""
MEASURED_MASK_SHARE = 0.15
"""BERT's hidden share where it is measured (devlin2019bert, Sec. 3.1), whatever it learns with, so
that two trainings are comparable."""
CAUSAL_PIECE, MASKED_PIECE = 2048, 512


@dataclass(frozen=True)
class Job:
    """What is trained and measured.

    Attributes:
        sources: Of which texts are learnt.
        measured: Of which held-out texts are measured only; they come behind in ``stream``.
        folder: The pretraining's, while it is at work.
    """

    settings: PretrainingSettings
    backbone: BackboneCard
    tokenizer: PreTrainedTokenizerBase
    sources: list[texts.Source]
    measured: list[texts.Source]
    stream: Stream
    folder: Path

    @property
    def piece(self) -> int:
        """Give the tokens of a piece, special ones left out."""
        whole = self.settings.learning.piece_tokens or usual_piece(self.backbone)
        return whole - 2 * (not self.backbone.causal)

    def drawn(self) -> NDArray[np.int64]:
        """Give the training documents, each as often as it is read."""
        settings = self.settings
        passes = settings.texts.passes or (1.0,) * len(self.sources)
        generator = np.random.default_rng([settings.learning.seed, 0])
        return batches.drawn(self.stream, passes, generator)

    def steps(self, documents: NDArray[np.int64], seed: int | None) -> Any:
        """Give the steps that read these documents.

        Args:
            documents: Which.
            seed: Draws the order of the pieces; None where they are measured, not learnt from.
        """
        learning, causal = self.settings.learning, self.backbone.causal
        pieces = batches.cut(self.stream, documents, self.piece, causal=causal)
        if seed is not None:
            generator = np.random.default_rng([seed, 1])
            pieces = pieces.take(generator.permutation(len(pieces)))
        if causal:
            return batches.NextToken(self.stream, pieces, learning.step_tokens)
        return batches.MaskedToken(
            self.stream, pieces, learning.step_tokens, _marks(self.tokenizer, causal=causal),
            share=MEASURED_MASK_SHARE if seed is None else learning.mask_share, seed=seed or 0,
        )  # fmt: skip

    def held_out(
        self, split: str, tokens: int, sources: list[texts.Source]
    ) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Give the documents of a held-out split that are measured, source by source."""
        for number, source in enumerate(sources):
            documents = perplexity.held_out(self.stream, split, number, tokens)
            if len(documents):
                yield source.name, documents


def usual_piece(backbone: BackboneCard) -> int:
    """Give the tokens of a piece where none are asked for, special ones included."""
    usual = CAUSAL_PIECE if backbone.causal else MASKED_PIECE
    return usual if backbone.family == "mamba" else min(usual, backbone.context)


def execute(
    settings: PretrainingSettings,
    output: str | Path,
    *,
    command: str = "",
    progress: Progress = silent,
) -> Path:
    """Pretrain a backbone, or go on with one that was interrupted.

    Args:
        settings: Everything.
        output: The folder that is made: weights, configuration and tokenizer as transformers saves
            them, a card (README.md) and ``pretraining.json``.
        command: What the card says it was made by.
        progress: Told how far it is.

    Returns:
        The folder.

    Raises:
        LongdocError: Texts, settings, or a part that is missing; or the folder holds another
            pretraining.
    """
    final = Path(output)
    folders.check_name(final)
    partial = final.with_name(f".{final.name}.partial")
    if final.exists():
        folders.check_same(settings, final, lambda: _sources(settings))
        checkpoints.check_unchanged(final)
        shutil.rmtree(partial, ignore_errors=True)  # what an interruption may have left
        return final
    keep_freed_memory()
    partial.mkdir(parents=True, exist_ok=True)
    with workplace.alone_in(partial):
        folders.keep_settings(settings, partial)
        progress(0.0, "reading texts")
        job = _job(settings, partial, progress)
        record = _learn(job, lambda share, message: progress(0.05 + 0.85 * share, message))
        record |= _measure(job, lambda share, message: progress(0.9 + 0.1 * share, message))
        _write(job, record, command)
        (partial / "learnt").rename(final)
    shutil.rmtree(partial)
    return final


def _job(settings: PretrainingSettings, partial: Path, progress: Progress) -> Job:
    backbone = build.resolve(settings.backbone)
    _check_piece(settings, backbone)
    if not build.starts_at_random(backbone, settings.backbone):
        checkpoints.check_unchanged(Path(backbone.checkpoint))
    together = _sources(settings)
    folders.keep_texts(together, partial)
    number = len(settings.texts.sources)
    sources, measured = together[:number], together[number:]
    if not (partial / "stream").exists():
        texts.hold_out(together)
    tokenizer = _tokenizer(settings, backbone, sources, partial, progress)
    _marks(tokenizer, causal=backbone.causal)
    end = tokenizer.eos_token_id if backbone.causal else None
    tokens = stream.write(
        together, tokenizer, partial / "stream", end,
        lambda share, message: progress(0.05 * share, message),
    )  # fmt: skip
    return Job(settings, backbone, tokenizer, sources, measured, tokens, partial)


def _sources(settings: PretrainingSettings) -> list[texts.Source]:
    """Open what is learnt from, and behind it what is measured only."""
    learnt, measured = settings.texts.sources, settings.texts.also_measure
    return [
        *(texts.open_source(name, settings.texts) for name in learnt),
        *(texts.open_source(name, settings.texts, only=("test",)) for name in measured),
    ]


def _check_piece(settings: PretrainingSettings, backbone: BackboneCard) -> None:
    piece = settings.learning.piece_tokens
    most = backbone.context
    fits = piece is None or backbone.family == "mamba" or piece <= most
    allowed = f"at most {most:,}, the positions that {backbone.name} has"
    require(fits, "learning.piece_tokens", allowed, piece)


def _tokenizer(
    settings: PretrainingSettings,
    backbone: BackboneCard,
    sources: list[texts.Source],
    partial: Path,
    progress: Progress,
) -> PreTrainedTokenizerBase:
    """Give the backbone's tokenizer: its own, one that is named, or one trained on the texts."""
    kept = partial / "tokenizer"
    if kept.exists():
        return AutoTokenizer.from_pretrained(kept)
    if settings.texts.tokenizer and not build.starts_at_random(backbone, settings.backbone):
        message = (
            f"texts.tokenizer must be left out: {backbone.name} has weights, which go with their "
            f"own tokenizer; with backbone.pretrained false it starts at random"
        )
        raise SettingsError(message)

    def train() -> PreTrainedTokenizerBase:
        progress(0.0, "training the tokenizer")
        drawn = texts.sample(sources, TOKENIZER_CHARACTERS)
        return tokenizers.train(drawn, settings.texts.vocabulary)

    tokenizer: PreTrainedTokenizerBase
    if settings.texts.tokenizer:
        tokenizer = _named_tokenizer(settings.texts.tokenizer)
    else:
        tokenizer = build.load_tokenizer(backbone, settings.backbone, train)
    unfinished = partial / "tokenizer.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(kept)
    return AutoTokenizer.from_pretrained(kept)


def _named_tokenizer(name: str) -> PreTrainedTokenizerBase:
    try:
        with hub.asked_only_if_reachable(name):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        message = (
            f"texts.tokenizer {name!r} is no folder with a tokenizer, "
            f"and cannot be had from the hub"
        )
        raise SettingsError(message) from error
    return tokenizer


def _marks(tokenizer: PreTrainedTokenizerBase, *, causal: bool) -> Marks:
    names = ("eos_token_id",) if causal else ("cls_token_id", "sep_token_id", "mask_token_id")
    found = {name: getattr(tokenizer, name) for name in (*names, "pad_token_id")}
    for name, number in found.items():
        if number is None:
            message = f"the tokenizer has no {name.removesuffix('_id')}"
            raise SettingsError(message)
    if causal:
        return Marks(found["pad_token_id"], tokenizer.vocab_size)
    cls, sep, mask = (found[name] for name in names)
    # Of the words alone: what was added to a tokenizer may have no vector.
    return Marks(found["pad_token_id"], tokenizer.vocab_size, cls, sep, mask)


def _learn(job: Job, progress: Progress) -> dict[str, Any]:
    """Train, and give what is to be recorded of it; weights stand in ``learnt`` then."""
    kept = job.folder / "learnt.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    settings, seed = job.settings, job.settings.learning.seed
    documents = job.drawn()
    steps = job.steps(documents, seed)
    if not len(steps):
        message = "the sources have no training text"
        raise DataError(message)
    model = models.make(job.backbone, settings.backbone, job.tokenizer, seed)
    held_out = {
        name: job.steps(found, None)
        for name, found in job.held_out("validation", CURVE_TOKENS, job.sources)
    }
    before = workplace.elapsed(job.folder)
    with cost.measured() as spent:
        history = learner.learn(
            model, steps, held_out, settings.learning, job.folder / "checkpoints",
            workplace.clocked(progress, job.folder),
        )  # fmt: skip
    models.save(model, job.folder / "learnt", getattr(torch, settings.learning.saved_as))
    lengths = job.stream.lengths()
    record = {
        "tokens": int(lengths[documents].sum()),
        "tokens_by_source": {
            source.name: int(lengths[documents[job.stream.source[documents] == number]].sum())
            for number, source in enumerate(job.sources)
        },
        "steps": len(steps),
        "seconds": before + spent.seconds,
        "peak_bytes": spent.peak_bytes,
        "parameters": sum(p.numel() for p in model.parameters()),
        "history": history,
    }
    workplace.write_json(kept, record)
    return record


def _measure(job: Job, progress: Progress) -> dict[str, Any]:
    """Measure the saved weights on test documents, beside unigram and n-gram of the same tokens."""
    documents = np.unique(job.drawn())
    documents = np.random.default_rng(0).permutation(documents)  # of every source, if not all
    lengths = np.cumsum(job.stream.lengths()[documents])
    documents = documents[: int(np.searchsorted(lengths, COUNTED_TOKENS)) + 1]
    read = [job.stream.document(number) for number in documents]
    vocabulary = len(job.tokenizer)
    progress(0.1, "counting n-grams")
    frequent = ngram.unigram(np.concatenate(read), vocabulary)
    counted = [ngram.KneserNey(read, vocabulary, order) for order in ngram.ORDERS]
    model: PreTrainedModel = models.load(job.folder / "learnt", job.backbone.family)
    found: dict[str, Any] = {}
    known = [*job.sources, *job.measured]
    for name, held_out in job.held_out("test", job.settings.texts.measured_tokens, known):
        progress(0.6, f"measuring {name}")
        ids = [job.stream.document(number) for number in held_out]
        behind = [part for part in ids if len(part) > 1]
        measured = perplexity.measure(model, job.steps(held_out, None))
        size = int(job.stream.size[held_out].sum())
        found[name] = {
            "documents": len(held_out),
            "tokens": measured.tokens,
            "perplexity": measured.perplexity,
            **_of_counts(behind, frequent, counted),
            "bits_per_byte": measured.nats / np.log(2) * sum(map(len, ids)) / size,
        }
    return {"measured": found, "counted_tokens": sum(map(len, read))}


def _of_counts(
    documents: list[NDArray[np.int64]],
    frequent: NDArray[np.float64],
    counted: list[ngram.KneserNey],
) -> dict[str, Any]:
    """Give the perplexities of unigram and n-grams; None where no document has a second token."""
    if not documents:
        return {"unigram": None, "ngrams": {str(grams.order): None for grams in counted}}
    single = np.concatenate([frequent[part[1:]] for part in documents])
    return {
        "unigram": float(np.exp(-single.mean())),
        "ngrams": {str(grams.order): grams.perplexity(documents) for grams in counted},
    }


def _write(job: Job, record: dict[str, Any], command: str) -> None:
    """Write the card and the record beside the weights."""
    whole = {
        "settings": to_mapping(job.settings),
        "command": command,
        "licence": job.backbone.licence,
        "from_random_weights": build.starts_at_random(job.backbone, job.settings.backbone),
        "machine": environment.processor(),
        "longdoc": environment.version("longdoc"),
        "commit": environment.commit(),
        "texts": {
            source.name: {"digest": source.digest, **_counts(source.notes, left_out)}
            for source, left_out in zip(
                [*job.sources, *job.measured], job.stream.left_out, strict=True
            )
        },
        "piece_tokens": job.settings.learning.piece_tokens or usual_piece(job.backbone),
        "splits": {split: len(job.stream.documents(split)) for split in SPLITS},
        **record,
    }
    learnt = job.folder / "learnt"
    job.tokenizer.save_pretrained(learnt)
    weights = learnt / "model.safetensors"
    whole["sha256"] = checkpoints.digest(weights)
    whole["dtype"] = str(next(iter(load_file(weights).values())).dtype).removeprefix("torch.")
    whole["bytes"] = weights.stat().st_size
    (learnt / "README.md").write_text(card.render(job.backbone, whole), encoding="utf-8")
    workplace.write_json(learnt / checkpoints.RECORD, whole)


def _counts(notes: dict[str, int], left_out: int) -> dict[str, int]:
    read = {"documents": notes["documents"] - left_out} if "documents" in notes else {}
    return {**read, "repeating_held_out": left_out}
