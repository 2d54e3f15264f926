"""Logits and targets to one number to minimise, and logits to scores.

Letters: ``b`` documents in the batch, ``c`` labels, ``m`` logits (1 for a binary task, else c).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from longdoc.documents.document import Kind
from longdoc.imbalance.loss import LabelLoss


def targets(truth: NDArray[np.bool_], kind: Kind) -> NDArray[np.float32]:
    """Give what the logits aim at, shape ``(n, m)``: a binary task aims with its second label."""
    return (truth[:, 1:] if kind == "binary" else truth).astype(np.float32)


def cross_entropies(logits: Tensor, aims: Tensor, kind: Kind) -> Tensor:
    """Give each document's cross entropy, in float32, whatever loss is trained with.

    Args:
        logits: Shape ``(b, m)``.
        aims: Shape ``(b, m)``, 0 or 1.
        kind: The task's.

    Returns:
        Shape ``(b,)``.
    """
    if kind == "multi-class":
        return F.cross_entropy(logits.float(), aims.float(), reduction="none")
    losses = F.binary_cross_entropy_with_logits(logits.float(), aims.float(), reduction="none")
    return losses.mean(dim=1)


def step_loss(loss: LabelLoss, documents_a_step: int) -> Callable[..., Tensor]:
    """Give the loss function for transformers' Trainer.

    The losses of a batch are added up and divided by the documents of the whole optimizer step, so
    that a step weighs the same however it is cut into batches and processes. (With several
    processes the Trainer multiplies by their number what the averaging of gradients divides by.)

    Args:
        loss: Gives each document's.
        documents_a_step: Batch times accumulation times processes.
    """

    def of_batch(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        losses = loss.documents(outputs["logits"], labels)
        return losses.mean() if num_items_in_batch is None else losses.sum() / documents_a_step

    return of_batch


def scores(logits: Tensor, kind: Kind, shift: NDArray[np.float64] | None = None) -> Tensor:
    """Turn logits into one score a label, 0..1, shape ``(b, c)``.

    Args:
        logits: Shape ``(b, m)``.
        kind: The task's.
        shift: Added to the logits, shape ``(m,)``.
    """
    if shift is not None:
        logits = logits.float() + torch.from_numpy(shift).to(logits.device, torch.float32)
    if kind == "multi-class":
        return torch.softmax(logits.float(), dim=1)
    likely = torch.sigmoid(logits.float())
    return torch.cat([1 - likely, likely], dim=1) if kind == "binary" else likely
