"""transformers' Trainer with checkpoints that are whole, shared by every kind of training."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from longdoc.errors import RunError
from longdoc.training import checkpoint


class WholeCheckpointTrainer(Trainer):
    """A Trainer whose checkpoints count only once they are whole, and that prints nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Leave Mamba's A, D and last norm without weight decay as well.

        Source:
            gu2023mamba, App. E.2.1 (norms) and the authors' code (A and D).
        """
        names = super().get_decay_parameter_names(model)
        free = ("A_log", ".D", "norm_f.weight")
        return [name for name in names if not name.endswith(free)]

    def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
        """Learn from a batch; stop where there is nothing left to learn."""
        loss: torch.Tensor = super().training_step(*arguments, **options)
        if not torch.isfinite(loss):
            message = (
                f"the training loss became {loss.item()} after {self.state.global_step} steps; "
                f"try a lower learning rate, or float32"
            )
            raise RunError(message)
        return loss

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save, mark as complete, and only then remove what came before."""
        run = Path(str(self.args.output_dir))
        saved = run / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            checkpoint.unmark(saved)
        super()._save_checkpoint(model, trial)
        wait_for_all(self.args)
        if not self.args.should_save:
            return
        checkpoint.mark_complete(saved)
        best = self.state.best_model_checkpoint
        checkpoint.keep_only(run, saved, Path(best) if best else None)


def newest_whole(arguments: TrainingArguments) -> Path | None:
    """Find the newest whole checkpoint, and remove those that are not whole."""
    folder = Path(str(arguments.output_dir))
    if arguments.process_index == 0:
        checkpoint.remove_incomplete(folder)
    wait_for_all(arguments)
    return checkpoint.newest(folder)


def wait_for_all(arguments: TrainingArguments) -> None:
    """Wait until every process is here."""
    if arguments.world_size > 1:
        torch.distributed.barrier()
