"""Cross entropy, and cross entropy in which positives of rare labels weigh more."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from longdoc.documents.document import Kind
from longdoc.imbalance.frequencies import Frequencies
from longdoc.imbalance.loss import EntryLoss, LabelLoss, SoftmaxLoss, like


class WeightedBce(EntryLoss):
    """Binary cross entropy a label.

    Args:
        positives: What positive entries weigh, shape ``(c,)``; 1 without.
        labels: What all entries of a label weigh, shape ``(c,)``; 1 without.
        shift: Added to the logits, shape ``(c,)``.
        weight: What the loss is multiplied by.
    """

    positives: Tensor | None
    labels: Tensor | None
    shift: Tensor | None

    def __init__(
        self,
        positives: Tensor | None = None,
        labels: Tensor | None = None,
        shift: Tensor | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        for name, value in (("positives", positives), ("labels", labels), ("shift", shift)):
            self.register_buffer(name, value)

    def entries(self, logits: Tensor, positive: Tensor) -> Tensor:
        """Give each entry's weighted cross entropy, shape ``(b, c)``."""
        z = logits if self.shift is None else logits + like(self.shift, logits)
        return F.binary_cross_entropy_with_logits(
            z,
            positive.to(z.dtype),
            weight=None if self.labels is None else like(self.labels, z),
            pos_weight=None if self.positives is None else like(self.positives, z),
            reduction="none",
        )


def bce(kind: Kind, weight: float) -> LabelLoss:
    """Make plain cross entropy, which every other loss is measured against."""
    return SoftmaxLoss(weight=weight) if kind == "multi-class" else WeightedBce(weight=weight)


def weighted_bce(
    frequencies: Frequencies, kind: Kind, weight: float, *, power: float, max_weight: float
) -> LabelLoss:
    """Make cross entropy in which positives weigh ((N - n) / n) ** power, at most ``max_weight``.

    Power 0 is plain; 1 makes positives and negatives of each label weigh the same in all, which
    the project's notes found too strong. With softmax a document weighs as its label does.
    """
    weights = torch.exp(-power * frequencies.prior_logits()).clamp(max=max_weight)
    if kind == "multi-class":
        return SoftmaxLoss(weights, weight=weight)
    return WeightedBce(positives=weights, weight=weight)
