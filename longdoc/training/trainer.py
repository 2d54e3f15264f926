"""Training on transformers' Trainer; what it does not promise is overridden, the rest kept.

Promised here: the same documents a step however a step is cut up; a loss that weighs alike for
batches, accumulation and processes; checkpoints that are whole; a resumed training that ends with
the weights of an undisturbed one.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from longdoc.adapters.placement import HEADS
from longdoc.documents.document import Kind
from longdoc.errors import RunError
from longdoc.imbalance.answer import Answer, work_out
from longdoc.imbalance.settings import ImbalanceSettings
from longdoc.kernels.allocator import give_back_excess
from longdoc.metrics import classification, thresholds
from longdoc.predictions import decide
from longdoc.progress import Progress, silent
from longdoc.tokens.batches import Collate, EpochBatches, Read, Windows, taken, token_counts
from longdoc.training import checkpoint, objective
from longdoc.training.head import HeadOnVectors
from longdoc.training.settings import TrainingSettings, check, uses_bfloat16
from longdoc.training.whole import WholeCheckpointTrainer, newest_whole, wait_for_all
from longdoc.training.workplace import trains_together

LOGGING_STEPS = 10


@dataclass(frozen=True)
class Split:
    """Token windows of one split and the truth about them.

    Attributes:
        encoded: Tokens a document; or one vector a document, shape (documents, d).
        truth: Shape (documents, labels).
        answer: Of a training split, to imbalance: the loss, and the documents of every epoch;
            cross entropy and each document once without.
    """

    name: str
    kind: Kind
    encoded: Read
    truth: NDArray[np.bool_]
    answer: Answer | None = None


@dataclass(frozen=True)
class Fitted:
    """A trained model and how it came about.

    Attributes:
        history: One record a logging step and evaluation.
        best: Validation metric of the checkpoint that was kept.
        tokens: Real tokens the training went through.
        steps: Optimizer steps.
    """

    model: nn.Module
    history: list[dict[str, float]]
    best: float
    tokens: int
    steps: int


class _DocumentTrainer(WholeCheckpointTrainer):
    batches: EpochBatches
    head_rate: float | None = None

    def create_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        """Give the head a rate of its own, if it has one."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*arguments, **options)
        if self.head_rate is not None:
            head = {id(part) for part in _head(cast("nn.Module", self.model))}
            for group in list(optimizer.param_groups):
                own = [part for part in group["params"] if id(part) in head]
                group["params"] = [part for part in group["params"] if id(part) not in head]
                if own:
                    optimizer.add_param_group({**group, "params": own, "lr": self.head_rate})
        return optimizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Give batches in an order that depends on seed and epoch alone."""
        return DataLoader(
            cast("Windows", self.train_dataset),
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
        )


def _head(model: nn.Module) -> list[nn.Parameter]:
    """List the parameters of what stands on top of the backbone."""
    names = HEADS.get(cast("PreTrainedModel", model).config.model_type, ())
    return [
        part
        for name, part in model.named_parameters()
        if isinstance(model, HeadOnVectors) or set(names) & set(name.split("."))
    ]


class _Watch(TrainerCallback):
    """Sets the epoch's order, asks for checkpoints by the clock, and tells how far it is."""

    def __init__(self, batches: EpochBatches, minutes: float, progress: Progress) -> None:
        self.batches, self.seconds, self.progress = batches, 60 * minutes, progress
        self.saved = time.monotonic()
        self.tokens = 0

    def on_epoch_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.batches.set_epoch(int((state.epoch or 0.0) + 1e-6))

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        give_back_excess()  # batches of unlike lengths leave holes; they would add up to gigabytes
        # Not at an epoch's end: there the checkpoint must hold the evaluation, and comes by itself.
        an_epoch = len(self.batches) // self.batches.accumulation
        ends = state.global_step % an_epoch == 0 or state.global_step >= state.max_steps
        if time.monotonic() - self.saved > self.seconds and not ends:
            control.should_save = True
        shown = f"epoch {state.epoch:.1f} of {args.num_train_epochs:g}"
        best = "" if state.best_metric is None else f", best validation {state.best_metric:.3f}"
        self.progress(state.global_step / max(1, state.max_steps), shown + best)

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        give_back_excess()

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.saved = time.monotonic()


def fit(
    model: nn.Module,
    train: Split,
    validation: Split,
    settings: TrainingSettings,
    *,
    rate: float,
    folder: Path,
    progress: Progress = silent,
) -> Fitted:
    """Train a model; a training that was interrupted in the same folder goes on.

    Args:
        model: A classifier, with or without adapters.
        train: Documents to learn from.
        validation: Documents that stop training and pick the checkpoint.
        settings: How.
        rate: Peak learning rate.
        folder: For checkpoints.
        progress: Told how far it is.

    Returns:
        The model with the weights of the best checkpoint.

    Raises:
        RunError: A test split was handed in, or the loss is not finite.
        SettingsError: A number is out of range.
    """
    check(settings)
    for given, wanted in ((train, "train"), (validation, "validation")):
        if given.name != wanted:
            message = f"training takes the {wanted} split here; got {given.name!r}"
            raise RunError(message)
    kind = train.kind
    answer = train.answer or work_out(ImbalanceSettings(), train.truth, kind, settings.seed)
    arguments = _arguments(settings, rate, folder)
    batches = EpochBatches(
        token_counts(train.encoded),
        settings.batch_size,
        accumulation=settings.accumulation,
        seed=settings.seed,
        processes=arguments.world_size,
        rank=arguments.process_index,
        group=settings.group_by_length,
    )
    batches.draw_with(answer.draw)
    order = np.argsort(-token_counts(validation.encoded), kind="stable")
    watch = _Watch(batches, settings.checkpoint_minutes, progress)
    stop = EarlyStoppingCallback(settings.patience) if settings.patience else None
    trainer = _DocumentTrainer(
        model=model,
        args=arguments,
        train_dataset=Windows(train.encoded, objective.targets(train.truth, kind)),
        eval_dataset=Windows(
            taken(validation.encoded, order), objective.targets(validation.truth[order], kind)
        ),
        data_collator=_collate(model, train, validation),
        compute_metrics=_validation_metrics(kind, answer.logit_shift),
        compute_loss_func=objective.step_loss(answer.loss, batches.step),
        callbacks=[watch, *([stop] if stop else [])],
    )
    trainer.batches, trainer.head_rate = batches, settings.head_learning_rate
    before = _checkpoint_to_resume(arguments, settings)
    torch.manual_seed(settings.seed)
    trainer.train(resume_from_checkpoint=str(before) if before else None)
    return _finish(trainer, batches)


def _collate(model: nn.Module, *parts: Split) -> Collate:
    most = max(int(token_counts(part.encoded).max()) for part in parts)
    return Collate(cast("PreTrainedModel", model).config.pad_token_id, most)


def _checkpoint_to_resume(arguments: TrainingArguments, settings: TrainingSettings) -> Path | None:
    """Find the newest whole checkpoint; one that had ended training is not trained on."""
    before = newest_whole(arguments)
    if before is not None:
        if arguments.process_index == 0:
            checkpoint.settle_in(before)
        wait_for_all(arguments)
        ended = checkpoint.ended(before, settings.patience)
        if ended is not None:
            arguments.num_train_epochs = ended
    return before


def _finish(trainer: _DocumentTrainer, batches: EpochBatches) -> Fitted:
    history = [dict(record) for record in trainer.state.log_history]
    model = trainer.accelerator.unwrap_model(trainer.model)
    return Fitted(
        model=model,
        history=history,
        best=float(trainer.state.best_metric or 0.0),
        tokens=_tokens(batches, trainer.state.global_step),
        steps=trainer.state.global_step,
    )


def _tokens(batches: EpochBatches, steps: int) -> int:
    """Count the real tokens of the first so many steps, over all processes."""
    total, epoch = 0, 0
    while steps > 0:
        batches.set_epoch(epoch)
        taken = batches.steps()[:steps]
        total += int(batches.lengths[taken].sum())
        steps -= len(taken)
        epoch += 1
    return total


def _validation_metrics(kind: Kind, shift: NDArray[np.float64] | None) -> Any:
    """Score validation at the best global threshold, with logits shifted as for predictions."""

    def measure(prediction: EvalPrediction) -> dict[str, float]:
        logits = torch.from_numpy(np.asarray(prediction.predictions, dtype=np.float32))
        if not torch.isfinite(logits).all():
            message = (
                "scores of validation documents are not finite: learning diverged; "
                "try a lower learning rate, or float32"
            )
            raise RunError(message)
        if shift is not None:
            logits = logits + torch.from_numpy(shift).float()
        scored = objective.scores(logits, kind).numpy()
        aims = np.asarray(prediction.label_ids) > 0.5
        truth = np.concatenate([~aims, aims], axis=1) if kind == "binary" else aims
        cut = thresholds.choose(truth, scored, kind, 0.0)["global"]
        found = classification.averages(truth, decide(scored, kind, cut))
        losses = objective.cross_entropies(logits, torch.from_numpy(aims), kind)
        return {
            **{name: found[name] for name in ("micro-f1", "macro-f1")},
            "bce": float(losses.mean()),
        }

    return measure


def _arguments(settings: TrainingSettings, rate: float, folder: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder.resolve()),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.beta1,
        adam_beta2=settings.beta2,
        max_grad_norm=settings.max_grad_norm,
        bf16=uses_bfloat16(settings.precision),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=None,
        load_best_model_at_end=True,
        metric_for_best_model=settings.metric,
        greater_is_better=True,
        logging_steps=LOGGING_STEPS,
        logging_nan_inf_filter=False,
        report_to=settings.report_to,
        seed=settings.seed,
        data_seed=settings.seed,
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
        restore_callback_states_from_checkpoint=True,
        use_cpu=not torch.cuda.is_available(),
        ddp_backend=_backend(),
    )


def _backend() -> str | None:
    """Name what processes without a GPU talk through, if torchrun started several."""
    return "gloo" if trains_together() and not torch.cuda.is_available() else None
