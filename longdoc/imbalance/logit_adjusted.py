"""Logits are shifted by the label's frequency while training, and read without it."""

from longdoc.documents.document import Kind
from longdoc.imbalance.frequencies import Frequencies
from longdoc.imbalance.loss import LabelLoss, SoftmaxLoss
from longdoc.imbalance.plain import WeightedBce


def logit_adjusted(frequencies: Frequencies, kind: Kind, weight: float, *, tau: float) -> LabelLoss:
    """Make cross entropy of logits to which tau times the label's log frequency is added.

    With softmax log(n / N) is added, as published; with sigmoids the log odds log(n / (N - n)),
    which is our form for several labels: docs/departures.md.

    Source:
        menon2021logit, authors' code, logit_adjustment/main.py.
    """
    if kind == "multi-class":
        return SoftmaxLoss(shift=tau * frequencies.log_priors(), weight=weight)
    return WeightedBce(shift=tau * frequencies.prior_logits(), weight=weight)
