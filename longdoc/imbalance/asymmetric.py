"""Negatives that are already right count much less than positives."""

import torch
from torch import Tensor

from longdoc.imbalance.loss import EntryLoss, focused


class AsymmetricLoss(EntryLoss):
    """Asymmetric loss: -(1 - p)^g+ log(p) and -q^g- log(1 - q) for q = max(p - margin, 0).

    Entries are added up over labels and documents, as in the authors' code.

    Args:
        gamma_negative: g-.
        gamma_positive: g+.
        margin: Negatives scored below it cost nothing.
        weight: What the loss is multiplied by.

    Source:
        ridnik2021asymmetric, authors' code, src/loss_functions/losses.py. Logarithms are exact
        here, where the code cuts probabilities at 1e-8; the focusing weights have gradients, as in
        its AsymmetricLossOptimized.
    """

    def __init__(
        self, *, gamma_negative: float, gamma_positive: float, margin: float, weight: float = 1.0
    ) -> None:
        super().__init__(weight, reduction="sum")
        self.gamma_negative, self.gamma_positive = gamma_negative, gamma_positive
        self.margin = margin

    def entries(self, logits: Tensor, positive: Tensor) -> Tensor:
        """Give each entry's loss, shape ``(b, c)``."""
        return torch.where(positive, focused(logits, self.gamma_positive), self._negative(logits))

    def _negative(self, z: Tensor) -> Tensor:
        if self.margin == 0:
            return focused(-z, self.gamma_negative)
        likely = torch.sigmoid(z)
        counts = likely > self.margin
        # Where nothing counts the power would have no gradient: the logarithm of zero.
        shifted = torch.where(counts, likely - self.margin, 1.0)
        weight = shifted**self.gamma_negative
        surprise = -torch.log(torch.sigmoid(-z) + self.margin)
        return torch.where(counts, weight * surprise, torch.zeros_like(z))
