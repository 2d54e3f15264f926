"""One backbone, one seed: from token windows to a trained model, and on to scores."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedTokenizerBase

from longdoc.adapters import lora
from longdoc.backbones import build as backbones
from longdoc.backbones import checkpoints
from longdoc.documents.document import Corpus
from longdoc.experiments import frozen, store
from longdoc.experiments import model as models
from longdoc.experiments.settings import Settings
from longdoc.imbalance.answer import Answer, recorded_shift, work_out
from longdoc.metrics import cost
from longdoc.progress import Progress
from longdoc.tokens.batches import Collate, token_counts
from longdoc.tokens.encoding import Encoded
from longdoc.training import settings as training
from longdoc.training import trainer, workplace
from longdoc.training.head import HeadOnVectors
from longdoc.training.predict import Reader


@dataclass(frozen=True)
class Job:
    """What training starts from.

    Attributes:
        folder: The run's, while it is at work.
        encoded: Each split's documents in the tokenizer's tokens.
    """

    settings: Settings
    corpus: Corpus
    folder: Path
    tokenizer: PreTrainedTokenizerBase
    encoded: dict[str, list[Encoded]]
    progress: Progress


@dataclass
class Trained:
    """A trained model, and what is known of its training; all but the model is kept as JSON."""

    model: Any
    timings: dict[str, Any]
    notes: dict[str, object]
    history: list[dict[str, float]]
    vectors: frozen.Vectors | None = None


KEPT = ("timings", "notes", "history")


def train(job: Job) -> Trained:
    """Train, or take the training that was finished before this run was interrupted."""
    kept, model_folder = job.folder / "trained.json", job.folder / "model"
    if kept.exists():
        about = json.loads(kept.read_text(encoding="utf-8"))
        place = (model_folder, job.settings, job.tokenizer, job.corpus.labels, job.corpus.kind)
        model = models.load_saved(*place)[0]
        frozen_one = about["notes"]["adapter"] == "head-only"
        return Trained(model, **about, vectors=_vectors(job, model) if frozen_one else None)
    trained = _train(job)
    if workplace.is_main_process():
        card = backbones.resolve(job.settings.backbone)
        models.save_model(trained.model, job.settings, card, model_folder)
        about = {name: getattr(trained, name) for name in KEPT}
        store.write_json(kept, about)
    return trained


def _train(job: Job) -> Trained:
    settings, encoded = job.settings, job.encoded
    kind, labels = job.corpus.kind, job.corpus.labels
    model, built = models.build_model(settings, job.tokenizer, labels, kind)
    if settings.backbone.pretrained:
        checkpoints.check_unchanged(Path(built.card.checkpoint))
    _check_adapters(model, encoded["train"], job.tokenizer.pad_token_id)
    start = backbones.start(built.card, settings.backbone)
    preset = lora.resolved(settings.adapter, start)
    rate, head_rate = models.peak_rates(settings, built.card)
    before = workplace.elapsed(job.folder)
    answer = _answer(job)
    vectors = _vectors(job, model) if preset == "head-only" else None
    with cost.measured() as fitting:
        fitted = _fit(job, model, answer, (rate, head_rate), vectors)
    trainable, total = lora.count_parameters(model)
    # What a frozen backbone read before, for another run, is paid for in each.
    reading = 0.0 if vectors is None else vectors.seconds["train"] + vectors.seconds["validation"]
    seconds = before + fitting.seconds + reading
    tokens = fitted.tokens if vectors is None else int(token_counts(encoded["train"]).sum())
    timings = {
        "train_seconds": seconds,
        "train_tokens": tokens,
        "train_tokens_per_second": tokens / seconds,
        "peak_bytes": fitting.peak_bytes,
        "trainable_parameters": trainable,
        "parameters": total,
        "steps": fitted.steps,
    }
    notes = {
        **built.notes,
        "learning_rate": rate,
        "head_learning_rate": head_rate or rate,
        "adapter": preset,
        "imbalance": answer.notes,
        "interrupted": before > 0,
    }
    return Trained(model, timings, notes, fitted.history, vectors)


def _answer(job: Job) -> Answer:
    truth = job.corpus.truth(job.corpus.splits["train"])
    settings = job.settings
    return work_out(settings.imbalance, truth, job.corpus.kind, settings.training.seed)


def _fit(
    job: Job,
    model: Any,
    answer: Answer,
    rates: tuple[float, float | None],
    vectors: frozen.Vectors | None,
) -> trainer.Fitted:
    """Train all that can be trained, or the head alone on vectors.

    The second of the rates is the head's.
    """
    corpus = job.corpus
    read: Any = job.encoded if vectors is None else vectors.of
    train, validation = (
        trainer.Split(
            split,
            corpus.kind,
            read[split],
            corpus.truth(corpus.splits[split]),
            answer if split == "train" else None,
        )
        for split in ("train", "validation")
    )
    return trainer.fit(
        model if vectors is None else HeadOnVectors(model),
        train,
        validation,
        replace(job.settings.training, head_learning_rate=rates[1]),
        rate=rates[0],
        folder=job.folder / "checkpoints",
        progress=_while_training(job),
    )


def _vectors(job: Job, model: Any) -> frozen.Vectors:
    """Let a frozen backbone read every document, or take what it said before."""
    reader = replace(_reader(job, model), batch_size=frozen.BATCH)
    # Without the clock of training: what reading took is kept with the vectors.
    return frozen.vectors(reader, job.settings, job.encoded, _of_training(job))


def score(job: Job, trained: Trained, split: str) -> NDArray[np.float32]:
    """Score a split's documents, shape (documents, labels)."""
    shift, kind = recorded_shift(trained.notes), job.corpus.kind
    reader = _reader(job, trained.model)
    if trained.vectors is not None:
        return reader.scores_of_vectors(trained.vectors.of[split], kind, shift)

    def tell(share: float, message: str) -> None:
        job.progress(0.9 + 0.1 * share, message)

    return reader.scores(job.encoded[split], kind, shift, tell)


def _reader(job: Job, model: Any) -> Reader:
    settings = job.settings.training
    bfloat16 = training.uses_bfloat16(settings.precision)
    return Reader(model, job.tokenizer.pad_token_id, settings.batch_size, bfloat16)


def _of_training(job: Job) -> Progress:
    """Tell a run's progress of its training, which is nine tenths of it."""

    def tell(share: float, message: str) -> None:
        job.progress(0.9 * share, message)

    return tell


def _while_training(job: Job) -> Progress:
    """Tell the same, and note the time."""
    return workplace.clocked(_of_training(job), job.folder, writes=workplace.is_main_process())


def _check_adapters(model: nn.Module, encoded: list[Encoded], pad: int) -> None:
    nothing = np.zeros(0, dtype=np.float32)
    few = Collate(pad)([(part.ids[-64:], nothing) for part in encoded[:2]])
    lora.check_alive(model, few)
