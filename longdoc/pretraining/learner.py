"""From steps of tokens to trained weights, on transformers' Trainer."""

import time
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from longdoc.pretraining import perplexity
from longdoc.pretraining.muon import MuonWithAdamW
from longdoc.pretraining.settings import LearningSettings, peak_rate
from longdoc.progress import Progress
from longdoc.training.settings import uses_bfloat16
from longdoc.training.whole import WholeCheckpointTrainer, newest_whole

Steps = Dataset[dict[str, Tensor]]
LOGGING_STEPS = 10


class _Learner(WholeCheckpointTrainer):
    def __init__(self, settings: LearningSettings, **options: Any) -> None:
        self.settings = settings
        super().__init__(**options)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make transformers' AdamW, or Muon beside AdamW."""
        trained = model or self.model
        if self.optimizer is None and self.settings.optimizer == "muon":
            assert trained is not None
            self.optimizer = MuonWithAdamW(
                trained,
                matrix_rate=self.settings.muon_learning_rate,
                rate=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                decays=self.get_decay_parameter_names(trained),
            )
        made: torch.optim.Optimizer = super().create_optimizer(model)
        return made

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Give the steps in their order, each as it is."""
        steps = cast("Steps", self.train_dataset)
        return DataLoader(
            steps,
            batch_size=1,
            sampler=SequentialSampler(cast("Any", steps)),
            collate_fn=lambda rows: rows[0],
        )

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        """Give the mean loss of a step's predicted tokens."""
        loss: Tensor = model(**inputs).loss
        return loss


class _Watch(TrainerCallback):
    """Measures on the way, asks for checkpoints by the clock, and tells how far it is."""

    def __init__(
        self, held_out: dict[str, Steps], settings: LearningSettings, progress: Progress
    ) -> None:
        self.held_out, self.settings, self.progress = held_out, settings, progress
        self.saved = time.monotonic()
        self.shown = ""

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        if state.global_step == 0:
            self._measure(state, given["model"])

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        every = max(1, state.max_steps // max(1, self.settings.points))
        if state.global_step % every == 0 or state.global_step == state.max_steps:
            self._measure(state, given["model"])
        if time.monotonic() - self.saved > 60 * self.settings.checkpoint_minutes:
            control.should_save = True
        step = f"step {state.global_step} of {state.max_steps}"
        self.progress(state.global_step / max(1, state.max_steps), step + self.shown)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.saved = time.monotonic()

    def _measure(self, state: TrainerState, model: PreTrainedModel) -> None:
        found = {
            f"perplexity/{name}": perplexity.measure(model, steps).perplexity
            for name, steps in self.held_out.items()
            if len(steps)  # type: ignore[arg-type]
        }
        state.log_history.append({"step": state.global_step, **found})
        self.shown = ", perplexity " + ", ".join(f"{value:.1f}" for value in found.values())


def learn(
    model: PreTrainedModel,
    steps: Steps,
    held_out: dict[str, Steps],
    settings: LearningSettings,
    folder: Path,
    progress: Progress,
) -> list[dict[str, float]]:
    """Train a language model; a training that was interrupted in the same folder goes on.

    Args:
        model: Changed in place.
        steps: What each optimizer step reads.
        held_out: Steps to measure on the way, by name.
        settings: How.
        folder: For checkpoints.
        progress: Told how far it is.

    Returns:
        The history: losses, and perplexities under ``perplexity/NAME``.

    Raises:
        RunError: The loss, or what is measured on the way, is not finite.
    """
    arguments = _arguments(settings, folder, peak_rate(settings, model.config.model_type))
    trainer = _Learner(
        settings,
        model=model,
        args=arguments,
        train_dataset=steps,
        callbacks=[_Watch(held_out, settings, progress)],
    )
    before = newest_whole(arguments)
    torch.manual_seed(settings.seed)
    trainer.train(resume_from_checkpoint=str(before) if before else None)
    return [dict(record) for record in trainer.state.log_history]


def _arguments(settings: LearningSettings, folder: Path, rate: float) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder.resolve()),
        num_train_epochs=1,
        per_device_train_batch_size=1,
        learning_rate=rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": settings.final_rate},
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.beta1,
        adam_beta2=settings.beta2,
        max_grad_norm=settings.max_grad_norm,
        bf16=uses_bfloat16(settings.precision),
        save_strategy="no",
        logging_steps=LOGGING_STEPS,
        logging_nan_inf_filter=False,
        report_to="none",
        seed=settings.seed,
        data_seed=settings.seed,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
    )
