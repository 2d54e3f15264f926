"""From which score on a label is given: fixed, one for all, or one a label.

Chosen on validation, never on the test. Letters: ``n`` documents, ``c`` labels.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from longdoc.documents.document import Kind
from longdoc.metrics.classification import Matrix, Vector, ratio
from longdoc.settings import chosen, cited, require

Mode = Literal["fixed", "global", "per-label"]
MODES: tuple[Mode, ...] = ("fixed", "global", "per-label")
FIXED = 0.5
Prior = Literal["global", "expected-count"]


@dataclass(frozen=True, kw_only=True)
class ThresholdSettings:
    """From which score on a label is given, and which groups of labels are told apart."""

    mode: Mode = chosen(
        "per-label",
        "the same linear SVM gains 5 to 12 points of macro-F1 on LexGLUE's multi-label tasks "
        "(lin2023linear, repository README)",
    )
    """Which thresholds `predict` uses and a comparison tests by; reports show all three."""
    shrinkage: float = chosen(
        10.0,
        "with ten positive documents a label lies half way between its own and the global one",
        unit="documents",
    )
    """How many positive validation documents a label needs until its own threshold counts as much
    as what it is drawn to, where documents have several labels."""
    prior: Prior = chosen(
        "global",
        "keeps micro-F1; expected-count finds more rare labels for up to 0.05 of it "
        "(docs/results/long-tail.md), which is for the user to decide",
    )
    """What a label's own threshold is drawn to where it has few positive validation documents: the
    global one, or the one at which as large a share of the validation documents is given the label
    as of the training documents has it (expected-count; one document at least). Only where
    documents have several labels."""
    head: int = cited(
        35,
        "huang2021balancing",
        "Sec. 3.1, Reuters-21578",
        unit="training documents",
        note="as quoted in the project's notes; the border of the paper's Reuters experiment",
    )
    """Labels with at least so many training documents are head."""
    tail: int = cited(
        8,
        "huang2021balancing",
        "Sec. 3.1, Reuters-21578",
        unit="training documents",
        note="as quoted in the project's notes; the border of the paper's Reuters experiment",
    )
    """Labels with at most so many training documents are tail."""

    def __post_init__(self) -> None:
        require(self.shrinkage >= 0, "thresholds.shrinkage", "0 or more", self.shrinkage)
        above = f"above thresholds.tail, {self.tail}"
        require(self.head > self.tail, "thresholds.head", above, self.head)


def best_threshold(truth: Matrix, scores: NDArray[np.float32]) -> float:
    """Find the threshold with the highest F1, all entries pooled.

    Args:
        truth: Any shape.
        scores: The same shape.

    Returns:
        A value half way between two neighbouring scores, or the upper one where float32 has none
        between them, above 0: what a system scores 0 it does not say. 0.5 if nothing is true, or
        nothing is scored above 0.

    Example:
        >>> best_threshold(np.array([True, False, True]), np.array([0.9, 0.2, 0.4]))
        0.30000000000000004
    """
    truth, scores = truth.reshape(-1), scores.reshape(-1)
    positives = int(np.count_nonzero(truth))
    if not positives:
        return FIXED
    truth, scores = _leading(truth, scores, positives)
    order = np.argsort(-scores, kind="stable")
    values, hits = scores[order].astype(float), truth[order]
    if values[0] <= 0:
        return FIXED
    tp, taken = hits.cumsum(), np.arange(1, len(hits) + 1)
    scored = ratio(2.0 * tp, (taken + positives).astype(float))
    below = np.append(values[1:], 0.0)
    scored[:-1][values[:-1] == below[:-1]] = -1.0  # equal scores cannot be parted
    scored[values <= 0] = -1.0
    best = int(scored.argmax())
    return float(_between(values[best], below[best]))


def _leading(
    truth: NDArray[np.bool_], scores: NDArray[np.float32], positives: int
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Keep the highest scores, among which the best threshold is; sorting all takes gigabytes.

    Of ``t`` entries taken no F1 is above ``2 p / (t + p)`` for ``p`` positives. What the ``p``
    highest scores come to is a bound that says how large ``t`` may be; one more entry is kept, as
    a threshold lies half way to the next one.
    """
    last = len(scores) - 1
    if positives > last:
        return truth, scores
    taken = scores >= np.partition(scores, last + 1 - positives)[last + 1 - positives]
    reached = 2 * np.count_nonzero(truth[taken]) / (np.count_nonzero(taken) + positives)
    most = int(2 * positives / reached - positives) + 1 if reached else last
    if most >= last:
        return truth, scores
    kept = scores >= np.partition(scores, last - most)[last - most]
    return truth[kept], scores[kept]


def best_binary_threshold(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> float:
    """Find the threshold on the positive label's score with the highest macro-F1 of both labels.

    Args:
        truth: Whether a document bears the positive label, shape ``(n,)``.
        scores: Of the positive label, shape ``(n,)``.

    Returns:
        A value between two neighbouring scores as :func:`best_threshold` gives it, above 0, or half
        way between the highest and 1, where giving the label to none is best. 0.5 if all documents
        bear the same label, or nothing is scored above 0.

    Example:
        >>> best_binary_threshold(np.array([True, False, False, False]), np.full(4, 0.5))
        0.75
    """
    order = np.argsort(-scores, kind="stable")
    values, hits = scores[order].astype(float), truth[order]
    total, positives = len(hits), int(np.count_nonzero(hits))
    if positives in (0, total) or values[0] <= 0:
        return FIXED
    # None, the first, the first two, ... given the label.
    taken = np.arange(total + 1.0)
    tp = np.append(0, hits.cumsum())
    tn = (total - positives) - (taken - tp)
    positive = ratio(2.0 * tp, taken + positives)
    negative = ratio(2.0 * tn, (total - taken) + (total - positives))
    scored = positive + negative
    cuts = np.append(_above(values[0]), _between(values, np.append(values[1:], 0.0)))
    scored[1:-1][values[:-1] == values[1:]] = -1.0  # equal scores cannot be parted
    scored[1:][values <= 0] = -1.0
    return float(cuts[scored.argmax()])


def _between(upper: Any, lower: Any) -> Any:
    """Give half way between scores; the upper one where NumPy would round that to the lower one.

    It rounds to float32 where such scores are compared with a Python number.
    """
    middle = (upper + lower) / 2
    return np.where(np.float32(middle) > lower, middle, upper)


def _above(score: float) -> float:
    """Give a threshold that no score up to this one reaches, also where both are float32."""
    return (score + 1) / 2 if score < 1 else float(np.nextafter(np.float32(score), np.float32(2)))


def expected_count_threshold(scores: NDArray[np.float32], share: float) -> float | None:
    """Find the threshold at which a share of the documents is given a label, one at least.

    Args:
        scores: Of one label, shape ``(n,)``.
        share: Of the documents, 0..1.

    Returns:
        A value between two neighbouring scores as :func:`best_threshold` gives it. Where equal
        scores would have to be parted fewer documents are given it; None if that leaves none.

    Example:
        >>> expected_count_threshold(np.array([0.75, 0.25, 0.5, 0.0]), 0.5)
        0.375
    """
    ordered = np.append(np.sort(scores.astype(float))[::-1], 0.0)
    count = min(max(1, round(share * len(scores))), len(scores))
    while count and ordered[count - 1] == ordered[count]:
        count -= 1
    return float(_between(ordered[count - 1], ordered[count])) if count else None


def expected_shares(
    settings: ThresholdSettings, training: NDArray[np.int64], documents: int
) -> Vector | None:
    """Give the share of documents that should have each label, if the settings go by it.

    Args:
        settings: For the prior.
        training: Training documents a label, shape ``(c,)``.
        documents: Training documents in all.
    """
    return training / documents if settings.prior == "expected-count" else None


def choose(
    truth: Matrix,
    scores: NDArray[np.float32],
    kind: Kind,
    shrinkage: float,
    expected: Vector | None = None,
) -> dict[Mode, Vector]:
    """Choose thresholds on validation documents.

    The global one maximises micro-F1 (binary: macro-F1 of both labels). A label's own maximises
    its F1 and is drawn towards the global one where the label has few positive documents, since a
    threshold tuned on a handful of them overfits.

    Args:
        truth: Shape ``(n, c)``.
        scores: Shape ``(n, c)``.
        kind: multi-class tasks take the highest score; their thresholds have no effect.
        shrinkage: Positive documents at which a label's own threshold and the global one weigh the
            same.
        expected: Share of documents that should have each label, shape ``(c,)``; labels are then
            drawn to the threshold that gives them to so many instead, if the share is above 0.

    Returns:
        For each mode one threshold a label, shape ``(c,)``.

    Source:
        The overfitting of rare labels' thresholds: lin2023thresholding, abstract. The shrinkage is
        ours.
    """
    labels = truth.shape[1]
    fixed = np.full(labels, FIXED)
    if kind == "multi-class" or not len(truth):
        return {"fixed": fixed, "global": fixed, "per-label": fixed}
    if kind == "binary":
        cut = np.full(labels, best_binary_threshold(truth[:, 1], scores[:, 1]))
        return {"fixed": fixed, "global": cut, "per-label": cut}
    overall = best_threshold(truth, scores)
    own = np.array([best_threshold(truth[:, c], scores[:, c]) for c in range(labels)])
    positives = truth.sum(axis=0)
    weight = ratio(positives.astype(float), positives + shrinkage)
    prior = np.full(labels, overall)
    shares = np.zeros(labels) if expected is None else expected
    for column in np.flatnonzero(shares):
        found = expected_count_threshold(scores[:, column], shares[column])
        prior[column] = overall if found is None else found
    shrunk = weight * own + (1 - weight) * prior
    return {"fixed": fixed, "global": np.full(labels, overall), "per-label": shrunk}
