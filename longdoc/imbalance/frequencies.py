"""How often each label occurs, and what losses make of it.

Letters: ``c`` labels, ``n`` documents with a label, ``N`` documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longdoc.errors import SettingsError
from longdoc.settings import require, short

HALF = 0.5
"""A label that no or every document bears counts as if half a document were otherwise, so that its
log odds are finite; one document more or less is the least that can be counted."""


@dataclass(frozen=True)
class Frequencies:
    """Training documents a label, and in all.

    Attributes:
        counts: Shape ``(c,)``, float64.
        documents: N.
    """

    counts: Tensor
    documents: int

    def prior_logits(self) -> Tensor:
        """Give each label's log odds, log(n / (N - n)), finite for n of 0 and N; shape ``(c,)``."""
        counts = self.counts.clamp(HALF, self.documents - HALF)
        return torch.log(counts) - torch.log(self.documents - counts)

    def log_priors(self) -> Tensor:
        """Give the log of each label's share of all documents, shape ``(c,)``."""
        return torch.log(self.counts.clamp(min=HALF) / self.documents)

    def inverse(self) -> Tensor:
        """Give 1 / n, shape ``(c,)``."""
        return 1 / self.counts.clamp(min=HALF)

    def others(self) -> "Frequencies":
        """Give the same of not bearing a label."""
        return Frequencies(self.documents - self.counts, self.documents)


def count(
    label_counts: Sequence[int] | NDArray[np.integer] | Tensor, documents: int
) -> Frequencies:
    """Check counts.

    Args:
        label_counts: Training documents a label, shape ``(c,)``; for a binary task with one logit
            the number of positive documents alone.
        documents: N.

    Raises:
        SettingsError: They are no counts of N documents.

    Example:
        >>> count([1, 3], 4).prior_logits()
        tensor([-1.0986,  1.0986], dtype=torch.float64)
    """
    number = _documents(documents)
    try:
        given: Any = label_counts
        if isinstance(given, Tensor):
            # By way of double: NumPy has not every tensor's type.
            whole_type = given.dtype if given.dtype == torch.bool else torch.float64
            given = given.detach().cpu().to(whole_type).numpy()
        counts = torch.from_numpy(np.array(given, dtype=np.float64))
        if any(isinstance(part, str | bool | np.bool_) for part in np.array(given).flat):
            counts = torch.empty(0)  # truth and text are no counts
    except (TypeError, ValueError, OverflowError, RuntimeError):
        counts = torch.empty(0)
    whole = counts.ndim == 1 and len(counts) > 0 and bool((counts == counts.round()).all())
    if not whole or counts.min() < 0 or counts.max() > number:
        message = (
            f"label_counts must be one whole number a label, each in 0..n_documents, {number}; "
            f"got {short(label_counts)}"
        )
        raise SettingsError(message)
    return Frequencies(counts, number)


def _documents(number: Any) -> int:
    """Give N as a whole number.

    Raises:
        SettingsError: It is none of 1 or more.
    """
    given = number.item() if getattr(number, "ndim", None) == 0 else number
    counted = isinstance(given, int | float) and not isinstance(given, bool)
    fits = counted and 1 <= given < 2**53 and given == int(given)
    require(fits, "n_documents", "a whole number of 1 or more", number)
    return int(given)


def effective_weights(counts: Tensor, beta: float) -> Tensor:
    """Give (1 - beta) / (1 - beta ** n), one over the effective number of documents.

    Args:
        counts: Shape ``(c,)``; a label that no document bears weighs as one that one bears.
        beta: In 0..1, 1 excluded; 0 weighs all labels alike.

    Returns:
        Shape ``(c,)``.

    Source:
        cui2019classbalanced, authors' code, src/cifar_main.py.
    """
    if beta == 0:
        return torch.ones_like(counts)
    logarithm = np.log(beta)
    return -np.expm1(logarithm) / -torch.expm1(counts.clamp(min=1) * logarithm)
