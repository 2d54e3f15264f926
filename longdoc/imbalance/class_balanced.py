"""Labels weigh by the effective number of their documents."""

import torch
from torch import Tensor

from longdoc.documents.document import Kind
from longdoc.imbalance.frequencies import Frequencies, effective_weights
from longdoc.imbalance.loss import LabelLoss, SoftmaxLoss
from longdoc.imbalance.plain import WeightedBce


def class_balanced(
    frequencies: Frequencies, kind: Kind, weight: float, *, beta: float
) -> LabelLoss:
    """Make cross entropy in which a label of n documents weighs (1 - beta) / (1 - beta ** n).

    The weights are scaled to a mean of 1. With one logit the label and its absence are two classes.

    Source:
        cui2019classbalanced, authors' code, src/cifar_main.py. There every document has one label
        and all its sigmoid terms weigh as that label does; with several labels each term weighs as
        its own, as in huang2021balancing's code (by_class).
    """
    if kind != "multi-class" and len(frequencies.counts) == 1:
        both = torch.cat([frequencies.counts, frequencies.others().counts])
        positive, negative = _scaled(effective_weights(both, beta)).split(1)
        return WeightedBce(positives=positive / negative, labels=negative, weight=weight)
    weights = _scaled(effective_weights(frequencies.counts, beta))
    if kind == "multi-class":
        return SoftmaxLoss(weights, weight=weight)
    return WeightedBce(labels=weights, weight=weight)


def _scaled(weights: Tensor) -> Tensor:
    return weights / weights.mean()
