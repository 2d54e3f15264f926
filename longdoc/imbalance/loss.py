"""What all losses share: one number a document, and how documents add up.

Letters: ``b`` documents in the batch, ``c`` logits (one for a binary task), ``z`` a logit.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Reduction = Literal["mean", "sum"]


class LabelLoss(nn.Module, ABC):
    """A loss of logits ``(b, c)`` and targets ``(b, c)`` of zeros and ones: a scalar.

    Args:
        weight: What the loss is multiplied by.
        reduction: Whether documents and labels are averaged, or added up as in the authors' code.
    """

    def __init__(self, weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.weight, self.reduction = weight, reduction
        self.width: int | None = None
        """How many logits a document has; None for any number."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LabelLoss":
        """Move to another device, never to fewer digits: a weight of 1e6 has no half precision."""

        def moved(tensor: Tensor) -> Tensor:
            there = fn(tensor)
            return there if there.dtype == tensor.dtype else tensor.to(there.device)

        return super()._apply(moved, recurse)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Name the numbers it was built with."""
        kinds = (int, float, str)
        given = {name: part for name, part in vars(self).items() if type(part) in kinds}
        return ", ".join(f"{name}={part!r}" for name, part in given.items() if name[0] != "_")

    @abstractmethod
    def documents(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Give each document's loss, shape ``(b,)``; float32, or float64 for such logits."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Give the loss of the batch, a scalar.

        Targets are zeros and ones; within a graph and under ``vmap``, where nobody can look, what
        is above a half counts as one.
        """
        if not isinstance(logits, Tensor) or not isinstance(targets, Tensor):
            kinds = f"{type(logits).__name__} and {type(targets).__name__}"
            message = f"logits and targets must be tensors of shape (b, c); got {kinds}"
            raise TypeError(message)
        if logits.shape != targets.shape or logits.ndim != 2:
            shapes = f"{tuple(logits.shape)} and {tuple(targets.shape)}"
            message = f"logits and targets must have the same shape (b, c); got {shapes}"
            raise ValueError(message)
        both = (logits, targets)
        if any(part.is_complex() or part.layout != torch.strided for part in both):
            message = "logits and targets must be dense and real"
            raise ValueError(message)
        if logits.device != targets.device:
            message = f"logits are on {logits.device}, targets on {targets.device}: use one device"
            raise ValueError(message)
        if self.width is not None and self.width != logits.shape[1]:
            message = f"this loss is for {self.width} logits a document; got {logits.shape[1]}"
            raise ValueError(message)
        if logits.shape[0] == 0:
            message = "a batch of no documents has no loss"
            raise ValueError(message)
        _check_targets(targets)
        losses = self.documents(logits, targets)
        return losses.sum() if self.reduction == "sum" else losses.mean()


def _check_targets(targets: Tensor) -> None:
    """Refuse targets other than zero and one, which would be taken for one of them."""
    if targets.dtype == torch.bool or torch.compiler.is_compiling():
        return
    try:
        plain = bool(((targets == 0) | (targets == 1)).all())
    except RuntimeError:  # under vmap no value can be looked at
        return
    if not plain:
        wrong = targets[(targets != 0) & (targets != 1)].flatten()[0].item()
        message = f"targets must be zeros and ones; got {wrong:g}"
        raise ValueError(message)


def _at_most_one(targets: Tensor) -> Tensor:
    """Say which documents bear a label, shape ``(b,)``; refuse those with several.

    One of a validation part may bear a label that training lacks: it has none here.
    """
    borne = targets.sum(dim=1)
    if torch.compiler.is_compiling():
        return borne > 0
    try:
        several = bool((borne > 1).any())
    except RuntimeError:  # under vmap no value can be looked at
        return borne > 0
    if several:
        number = int(borne.max())
        message = f"a document of a multi-class task has one label; got one with {number}"
        raise ValueError(message)
    return borne > 0


class EntryLoss(LabelLoss):
    """A loss that looks at every label of a document by itself."""

    @abstractmethod
    def entries(self, logits: Tensor, positive: Tensor) -> Tensor:
        """Give each entry's loss.

        Args:
            logits: Shape ``(b, c)``, float32 or float64.
            positive: Shape ``(b, c)``, whether the label is borne.

        Returns:
            Shape ``(b, c)``.
        """

    def documents(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Average or add up the entries of each document, shape ``(b,)``."""
        entries = self.entries(widened(logits), targets > 0.5)
        whole = entries.sum(dim=1) if self.reduction == "sum" else entries.mean(dim=1)
        return self.weight * whole


class SoftmaxLoss(LabelLoss):
    """A loss for tasks with one label a document; one without costs nothing.

    Args:
        weights: One a label, shape ``(c,)``; a document weighs as its label does.
        shift: Added to the logits, shape ``(c,)``.
        gamma: Of the focal loss; 0 is plain.
        weight: What the loss is multiplied by.
    """

    weights: Tensor | None
    shift: Tensor | None

    def __init__(
        self,
        weights: Tensor | None = None,
        shift: Tensor | None = None,
        gamma: float = 0.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self.gamma = gamma
        self.register_buffer("weights", weights)
        self.register_buffer("shift", shift)

    def documents(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Give each document's cross entropy, weighted, shape ``(b,)``."""
        z = widened(logits)
        if self.shift is not None:
            z = z + like(self.shift, z)
        borne = _at_most_one(targets)
        label = targets.float().argmax(dim=1)
        losses = F.cross_entropy(z, label, reduction="none")
        losses = torch.where(borne, losses, torch.zeros_like(losses))
        if self.gamma:
            losses = losses * torch.exp(self.gamma * _log_of_rest(losses))
        if self.weights is not None:
            losses = losses * like(self.weights, z)[label]
        return self.weight * losses


def _log_of_rest(losses: Tensor) -> Tensor:
    """Give log(1 - p) of -log(p), finite where p is one."""
    tiny = torch.finfo(losses.dtype).tiny
    return torch.log(-torch.expm1(-losses.clamp(min=0)) + tiny)


def widened(logits: Tensor) -> Tensor:
    """Compute in float64 where logits are that, else in float32."""
    return logits if logits.dtype == torch.float64 else logits.float()


def like(buffer: Tensor, z: Tensor) -> Tensor:
    """Bring a buffer, kept in float64, to a logit's type and place."""
    return buffer.to(z.device, z.dtype)


def focused(signed: Tensor, gamma: float) -> Tensor:
    """Give -(1 - p) ** gamma * log(p) for p the sigmoid of a signed logit, exactly and finitely.

    Args:
        signed: The logit of what is true, any shape: z of a positive entry, -z of a negative one.
        gamma: 0 is cross entropy.

    Source:
        lin2017focal, as in huang2021balancing, Sec. 2.1.
    """
    surprise = -F.logsigmoid(signed)
    if gamma == 0:
        return surprise
    # (1 - p) ** gamma by its logarithm: a power of a rounded difference has no gradient left.
    return surprise * torch.exp(gamma * F.logsigmoid(-signed))
