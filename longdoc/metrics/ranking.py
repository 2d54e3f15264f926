"""Scores against truth, before any threshold: how well the right labels stand on top.

Letters: ``n`` documents, ``c`` labels, ``k`` labels looked at.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    ndcg_score,
)

Matrix = NDArray[np.bool_]
Scores = NDArray[np.float32]
FREQUENT = 50
"""Training documents from which a label is frequent (chalkidis2019eurlex57k)."""


def average_precisions(truth: Matrix, scores: Scores) -> NDArray[np.float64]:
    """Give every label's average precision, shape ``(c,)``; NaN where it has no document."""
    found = np.full(truth.shape[1], np.nan)
    for label in np.flatnonzero(truth.any(axis=0)):
        found[label] = average_precision_score(truth[:, label], scores[:, label])
    return found


def r_precision_at(truth: Matrix, scores: Scores, k: int) -> float:
    """Give R-Precision at k: hits among the k best, over the smaller of k and the true labels.

    Documents without a label do not count. Ties go to the label with the lower number.

    Args:
        truth: Shape ``(n, c)``.
        scores: Shape ``(n, c)``.
        k: At least 1.

    Source:
        chalkidis2019eurlex57k, the authors' code (``metrics.py``); the paper's text was not read.

    Example:
        >>> truth = np.array([[True, True, False]])
        >>> r_precision_at(truth, np.array([[0.9, 0.1, 0.5]], dtype=np.float32), 2)
        0.5
    """
    rows = truth.any(axis=1)
    if not rows.any():
        return 0.0
    truth, scores = truth[rows], scores[rows]
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(truth, best, axis=1).sum(axis=1)
    return float((hits / np.minimum(k, truth.sum(axis=1))).mean())


def rankings(truth: Matrix, scores: Scores) -> dict[str, float]:
    """Give mAP, label-ranking average precision, and RP@k and nDCG@k for k = 1, 3, 5.

    mAP is the mean over labels with at least one document; the others are means over documents
    with at least one label.
    """
    found = {"map": float(np.nan_to_num(np.nanmean(_or_zero(average_precisions(truth, scores)))))}
    rows = truth.any(axis=1)
    if not rows.any() or truth.shape[1] < 2:
        return found
    part, ranked = truth[rows], scores[rows]
    found["lrap"] = float(label_ranking_average_precision_score(part, ranked))
    for k in (1, 3, 5):
        if k <= truth.shape[1]:
            found[f"rp@{k}"] = r_precision_at(part, ranked, k)
            found[f"ndcg@{k}"] = float(ndcg_score(part, ranked, k=k))
    return found


def by_shots(
    truth: Matrix, scores: Scores, training: NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """Give RP@5 and nDCG@5 among the frequent, few-shot and zero-shot labels alone.

    Args:
        truth: Shape ``(n, c)``.
        scores: Shape ``(n, c)``.
        training: Training documents a label, shape ``(c,)``.

    Returns:
        Group to ``labels``, ``documents`` (those with a label of the group, over which the means
        are) and the two measures; groups of fewer than two labels or no document are left out.

    Source:
        chalkidis2019eurlex57k, the authors' code (``lmtc.py``): each group's columns by themselves.
        There frequent is above 50; their published 746 labels are those with at least 50.

    Example:
        >>> truth = np.array([[True, False, True]])
        >>> scores = np.array([[0.9, 0.3, 0.4]], dtype=np.float32)
        >>> list(by_shots(truth, scores, np.array([60, 3, 4])))
        ['few']
    """
    groups = {
        "frequent": training >= FREQUENT,
        "few": (training > 0) & (training < FREQUENT),
        "zero": training == 0,
    }
    found = {}
    for name, columns in groups.items():
        part, ranked = truth[:, columns], scores[:, columns]
        rows = part.any(axis=1)
        if part.shape[1] < 2 or not rows.any():
            continue
        found[name] = {
            "labels": int(columns.sum()),
            "documents": int(rows.sum()),
            "rp@5": r_precision_at(part, ranked, 5),
            "ndcg@5": float(ndcg_score(part[rows], ranked[rows], k=5)),
        }
    return found


def _or_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values if np.isfinite(values).any() else np.zeros(1)
