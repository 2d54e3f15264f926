"""The losses of huang2021balancing: focal terms, label weights, and tolerance of negatives.

cb, r_fl, ntr_fl, db_0fl, cb_ntr and db are these three parts put together in different ways, so
they are one class; the catalogue says which parts each has.

Letters: ``b`` documents in the batch, ``c`` labels, ``n`` training documents of a label, ``z`` a
logit; ``kappa``, ``lambda``, ``alpha``, ``beta`` and ``mu`` are the paper's.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longdoc.imbalance.frequencies import Frequencies, effective_weights
from longdoc.imbalance.loss import EntryLoss, focused, like

REUTERS_MU = 0.9
"""mu on Reuters-21578 (huang2021balancing, authors' code, Reuters/train.py)."""


@dataclass(frozen=True)
class Tolerance:
    """How negative entries are tolerated.

    Attributes:
        shift: kappa times the label's log odds, added to logits, shape ``(c,)``.
        scale: lambda.
    """

    shift: Tensor
    scale: float


class BalancedLoss(EntryLoss):
    """Focal loss with label weights and tolerance of negatives.

    Args:
        weights: What entries weigh; all alike without.
        tolerance: How negatives are tolerated; not without.
        gamma: Of the focal term; None for cross entropy.
        alpha: Weight of positive entries in the focal term; negative ones weigh 1 - alpha.
        weight: What the loss is multiplied by.

    Source:
        huang2021balancing, Sec. 2.1 to 2.3, and the authors' code, Reuters/util_loss.py.
    """

    def __init__(
        self,
        *,
        weights: "Weighting | None" = None,
        tolerance: Tolerance | None = None,
        gamma: float | None,
        alpha: float,
        weight: float,
    ) -> None:
        super().__init__(weight)
        self.weights, self.gamma, self.alpha = weights, gamma, alpha
        self.scale = 1.0 if tolerance is None else tolerance.scale
        self.shift: Tensor | None
        self.register_buffer("shift", None if tolerance is None else tolerance.shift)

    def entries(self, logits: Tensor, positive: Tensor) -> Tensor:
        """Give each entry's loss, shape ``(b, c)``."""
        z = logits if self.shift is None else logits + like(self.shift, logits)
        found = focused(torch.where(positive, z, -self.scale * z), self.gamma or 0.0)
        if self.gamma is not None:
            # As tensors of this type: of two numbers torch would make one of its default type.
            of_positive, of_negative = z.new_tensor(self.alpha), z.new_tensor(1 - self.alpha)
            found = found * torch.where(positive, of_positive, of_negative)
        if self.scale != 1:
            found = torch.where(positive, found, found / self.scale)
        return found if self.weights is None else found * self.weights(positive, z)


class Weighting(torch.nn.Module, ABC):
    """What an entry weighs; tensors in it move with the loss."""

    @abstractmethod
    def forward(self, positive: Tensor, z: Tensor) -> Tensor:
        """Give a weight an entry, shape ``(b, c)``."""


class EffectiveWeighting(Weighting):
    """(1 - beta) / (1 - beta ** n); of a binary task absence weighs by its own documents."""

    def __init__(self, frequencies: Frequencies, binary: bool, beta: float) -> None:
        super().__init__()
        positive = effective_weights(frequencies.counts, beta)
        negative = effective_weights(frequencies.others().counts, beta) if binary else positive
        self.positive: Tensor
        self.negative: Tensor
        self.register_buffer("positive", positive)
        self.register_buffer("negative", negative)

    def forward(self, positive: Tensor, z: Tensor) -> Tensor:
        """Give a weight an entry, shape ``(b, c)``."""
        return torch.where(positive, like(self.positive, z), like(self.negative, z))


class Rebalancing(Weighting):
    """alpha + sigmoid(beta (r - mu)) for r = P^C / P^I, the share of a label in its document.

    A document is drawn once for each of its labels when labels are drawn alike; r is what one
    label contributes to that, (1 / n) over the sum of it over the document's labels. A document
    without labels has r infinite. Of a binary task the label's absence is a label too.
    """

    def __init__(
        self,
        frequencies: Frequencies,
        binary: bool,
        *,
        map_alpha: float,
        map_beta: float,
        mu: float,
    ) -> None:
        super().__init__()
        self.map_alpha, self.map_beta, self.mu = map_alpha, map_beta, mu
        self.inverse: Tensor
        self.absent: Tensor | None
        self.register_buffer("inverse", frequencies.inverse())
        self.register_buffer("absent", frequencies.others().inverse() if binary else None)

    def forward(self, positive: Tensor, z: Tensor) -> Tensor:
        """Give a weight an entry, shape ``(b, c)``."""
        inverse = like(self.inverse, z)
        drawn = (positive * inverse).sum(dim=1, keepdim=True)
        if self.absent is not None:
            drawn = torch.where(positive, drawn, like(self.absent, z))
        return self.map_alpha + torch.sigmoid(self.map_beta * (inverse / drawn - self.mu))


def tolerance(frequencies: Frequencies, kappa: float, scale: float) -> Tolerance:
    """Make negative tolerance from label counts."""
    return Tolerance(kappa * frequencies.prior_logits(), scale)


def centre(truth: NDArray[np.bool_]) -> float:
    """Compute mu from training labels: half way between mean and median of r of all that is borne.

    Args:
        truth: Shape ``(documents, c)``.

    Returns:
        mu; that of Reuters-21578 where no document has a label.

    Source:
        huang2021balancing, authors' code, Reuters/dataset_prep.ipynb.

    Example:
        >>> round(centre(np.array([[True, False], [True, True]])), 3)
        0.667
    """
    counts = truth.sum(axis=0)
    inverse = np.divide(1.0, counts, out=np.zeros(len(counts)), where=counts > 0)
    rows, columns = np.nonzero(truth)
    if not len(rows):
        return REUTERS_MU
    drawn = np.bincount(rows, inverse[columns], len(truth))
    shares = inverse[columns] / drawn[rows]
    return float((shares.mean() + np.median(shares)) / 2)
