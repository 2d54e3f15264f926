"""Decisions against truth: counts, precision, recall, F1, accuracy.

Letters: ``n`` documents, ``c`` labels. A ratio whose denominator is zero is zero, as in
scikit-learn with ``zero_division=0``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.bool_]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives a label, each of shape ``(c,)``."""

    tp: Vector
    fp: Vector
    fn: Vector


def count(truth: Matrix, decided: Matrix) -> Counts:
    """Count hits and misses a label."""
    both = (truth & decided).sum(axis=0).astype(float)
    return Counts(both, decided.sum(axis=0) - both, truth.sum(axis=0) - both)


def ratio(above: Vector, below: Vector) -> Vector:
    """Divide, giving zero where there is nothing to divide by."""
    below = np.asarray(below, dtype=float)
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def precision(counts: Counts) -> Vector:
    """Give the share of decisions that are right, a label, shape ``(c,)``."""
    return ratio(counts.tp, counts.tp + counts.fp)


def recall(counts: Counts) -> Vector:
    """Give the share of the truth that was found, a label, shape ``(c,)``."""
    return ratio(counts.tp, counts.tp + counts.fn)


def f1(counts: Counts) -> Vector:
    """Give the harmonic mean of precision and recall, a label, shape ``(c,)``."""
    return ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def pooled(counts: Counts) -> Counts:
    """Add the labels up, for micro averages; shapes ``(1,)``."""
    return Counts(*(np.array([part.sum()]) for part in (counts.tp, counts.fp, counts.fn)))


def averages(truth: Matrix, decided: Matrix) -> dict[str, float]:
    """Give micro, macro and weighted precision, recall and F1, and both accuracies.

    Args:
        truth: Shape ``(n, c)``.
        decided: Shape ``(n, c)``.

    Returns:
        ``{micro,macro,weighted}-{precision,recall,f1}``; ``hamming-accuracy``, the share of single
        decisions that are right (1 - hamming loss); ``strict-accuracy``, the share of documents
        whose every label is right.

    Example:
        >>> averages(np.array([[True], [False]]), np.array([[True], [True]]))["micro-f1"]
        0.6666666666666666
    """
    counts = count(truth, decided)
    support = counts.tp + counts.fn
    found: dict[str, float] = {}
    for name, measure in (("precision", precision), ("recall", recall), ("f1", f1)):
        values = measure(counts)
        found[f"micro-{name}"] = float(measure(pooled(counts))[0])
        found[f"macro-{name}"] = float(values.mean())
        found[f"weighted-{name}"] = float(ratio((values * support).sum(), support.sum()))
    found["hamming-accuracy"] = float((truth == decided).mean())
    found["strict-accuracy"] = float((truth == decided).all(axis=1).mean())
    return found


def lexglue(truth: Matrix, decided: Matrix) -> dict[str, float]:
    """Give micro and macro F1 as LexGLUE does for ECtHR: bearing no label is a label too.

    Args:
        truth: Shape ``(n, c)``.
        decided: Shape ``(n, c)``.

    Returns:
        ``lexglue-micro-f1`` and ``lexglue-macro-f1``, over ``c + 1`` labels.

    Source:
        chalkidis2022lexglue, repository, experiments/ecthr.py, compute_metrics.

    Example:
        >>> lexglue(np.array([[True], [False]]), np.array([[True], [False]]))
        {'lexglue-micro-f1': 1.0, 'lexglue-macro-f1': 1.0}
    """
    whole = [np.column_stack([part, ~part.any(axis=1)]) for part in (truth, decided)]
    found = averages(whole[0], whole[1])
    return {f"lexglue-{name}": found[name] for name in ("micro-f1", "macro-f1")}


def group_rows(training: NDArray[np.int64], head: int, tail: int) -> dict[str, NDArray[np.int64]]:
    """Sort labels into head, medium and tail by their training documents.

    Args:
        training: Training documents a label, shape ``(c,)``.
        head: Labels with at least so many are head.
        tail: Labels with at most so many are tail.

    Source:
        huang2021balancing, Sec. 3.1 and the authors' code.
    """
    return {
        "head": np.flatnonzero(training >= head),
        "medium": np.flatnonzero((training < head) & (training > tail)),
        "tail": np.flatnonzero(training <= tail),
    }


def group_averages(
    truth: Matrix, decided: Matrix, training: NDArray[np.int64], head: int, tail: int
) -> dict[str, float]:
    """Give micro and macro F1 of head, medium and tail labels; an empty group is left out."""
    found = {}
    for group, rows in group_rows(training, head, tail).items():
        if len(rows):
            counts = count(truth[:, rows], decided[:, rows])
            found[f"{group}-micro-f1"] = float(f1(pooled(counts))[0])
            found[f"{group}-macro-f1"] = float(f1(counts).mean())
    return found
