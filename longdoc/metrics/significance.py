"""Is one system better than another, or was it luck of the documents and seeds?

Letters: ``n`` documents, ``c`` labels, ``s`` seeds of a system, ``r`` resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from longdoc.metrics.classification import Matrix, ratio

BATCH = 500
ROUNDING = 1e-12


@dataclass(frozen=True)
class Difference:
    """What is known about the difference of two systems.

    Attributes:
        observed: Mean metric of the first minus that of the second.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p: Two-sided, before correction for many pairs.
    """

    observed: float
    low: float
    high: float
    p: float


def document_weights(
    documents: int, resamples: int, seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Draw how often each document occurs in each resample, shape ``(r, n)``.

    Documents that belong together, such as one client's letters, are drawn together: what a system
    makes of one tells what it makes of the next, and drawn alone they would look like more than
    they are.

    Args:
        documents: How many there are.
        resamples: How many are drawn.
        seed: Of the draw.
        groups: Each document's group, numbered from 0, shape ``(n,)``; None: each is alone.
    """
    generator = np.random.default_rng(seed)
    units = documents if groups is None else int(groups.max(initial=-1)) + 1
    even = np.full(units, 1.0 / units)
    drawn = np.empty((resamples, documents), dtype=np.float32)
    for start in range(0, resamples, BATCH):
        part = drawn[start : start + BATCH]
        times = generator.multinomial(units, even, size=len(part))
        part[:] = times if groups is None else times[:, groups]
    return drawn


def resampled_f1(
    truth: Matrix, decided: Matrix, weights: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute micro and macro F1 of every resample.

    F1 does not average over documents, so hits and misses are added up anew for each resample. A
    label with one document is missing from every third resample. Where one has lost all of its
    documents it is left out of that resample's macro F1: counted as zero it would pull nearly all
    resamples below what was observed (benchmarks/interval_coverage.py). That is our choice. A label
    that no document of the test bears is zero in each, so that its share of the mean stays.

    Args:
        truth: Shape ``(n, c)``.
        decided: Shape ``(n, c)``.
        weights: Shape ``(r, n)``.

    Returns:
        Micro and macro F1, each of shape ``(r,)``.
    """
    hits = (truth & decided).astype(np.float32)
    either = (truth.astype(np.float32) + decided).astype(np.float32)
    borne = truth.astype(np.float32)
    scored = truth.any(axis=0).mean() if truth.shape[1] else 0.0
    micro, macro = [], []
    for start in range(0, len(weights), BATCH):
        part = weights[start : start + BATCH]
        tp, both = (part @ hits).astype(float), (part @ either).astype(float)
        counted = part @ borne > 0
        sums = (ratio(2 * tp, both) * counted).sum(axis=1)
        macro.append(scored * ratio(sums, counted.sum(axis=1)))
        micro.append(ratio(2 * tp.sum(axis=1), both.sum(axis=1)))
    return np.concatenate(micro), np.concatenate(macro)


def swaps(
    documents: int, resamples: int, seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Draw of which documents two systems swap their answers in each resample, shape ``(r, n)``.

    Arguments are those of :func:`document_weights`; a group's answers are swapped together.
    """
    generator = np.random.default_rng(seed)
    units = documents if groups is None else int(groups.max(initial=-1)) + 1
    drawn = np.empty((resamples, documents), dtype=np.float32)
    for start in range(0, resamples, BATCH):
        part = drawn[start : start + BATCH]
        sides = generator.integers(2, size=(len(part), units), dtype=np.int8)
        part[:] = sides if groups is None else sides[:, groups]
    return drawn


def swapped_gaps(
    truth: Matrix, first: Matrix, second: Matrix, swapped: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute by how much the first system is better once both have swapped some answers.

    Args:
        truth: Shape ``(n, c)``.
        first: What the first system decided, shape ``(n, c)``.
        second: What the second decided, shape ``(n, c)``.
        swapped: 1 for documents whose answers are swapped, else 0, shape ``(r, n)``.

    Returns:
        Differences of micro and of macro F1, each of shape ``(r,)``.
    """
    # Labels that both answer alike have the same F1 whoever gave which answer.
    unlike = np.flatnonzero((first != second).any(axis=0))
    hits = [(truth & decided).sum(axis=0) for decided in (first, second)]
    either = [truth.sum(axis=0) + decided.sum(axis=0) for decided in (first, second)]
    gains = second.astype(np.float32) - first
    gained = truth * gains
    micro = _gaps(
        [part.sum(keepdims=True) for part in hits], [part.sum(keepdims=True) for part in either],
        swapped @ gained.sum(axis=1, keepdims=True), swapped @ gains.sum(axis=1, keepdims=True),
    )  # fmt: skip
    moves = [sparse.csr_array(part[:, unlike]).T for part in (gained, gains)]
    macro = [
        _gaps(
            [part[unlike] for part in hits], [part[unlike] for part in either],
            *((move @ swapped[start : start + BATCH].T).T for move in moves),
        ).sum(axis=1)
        for start in range(0, len(swapped), BATCH)
    ]  # fmt: skip
    return micro[:, 0], np.concatenate(macro) / truth.shape[1]


def _gaps(
    hits: Sequence[NDArray[np.int64]],
    either: Sequence[NDArray[np.int64]],
    moved_hits: NDArray[Any],
    moved: NDArray[Any],
) -> NDArray[np.float64]:
    """Give differences of F1 once the first system gained what the second lost, ``(r, c)``."""
    moved_hits, moved = moved_hits.astype(float), moved.astype(float)
    ours, theirs = (
        ratio(2 * (own_hits + sign * moved_hits), own + sign * moved)
        for sign, own_hits, own in zip((1, -1), hits, either, strict=True)
    )
    return ours - theirs


def mean_over_seeds(values: Sequence[NDArray[np.float64]], seed: int) -> NDArray[np.float64]:
    """Average a metric over seeds drawn with replacement, anew for each resample, shape ``(r,)``.

    So the interval covers both what documents and what seeds a system happened to get. Means of
    seeds drawn with replacement vary by ``(s - 1) / s`` of what means of new seeds do, half of it
    with two; so they are moved apart by the root of that. With fewer than five seeds the test is
    still too ready (benchmarks/equal_systems.py): two seeds say little about what others would do.
    """
    stacked = np.stack(values)
    seeds = len(stacked)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(seeds, size=stacked.shape)
    means = np.take_along_axis(stacked, drawn, axis=0).mean(axis=0)
    if seeds == 1:
        return means
    middle = stacked.mean(axis=0)
    return np.asarray(middle + np.sqrt(seeds / (seeds - 1)) * (means - middle))


def interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Give the percentile interval of resampled values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def compare(
    observed: float,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    swapped: NDArray[np.float64] | None = None,
) -> Difference:
    """Test whether two systems differ, from paired resamples and from swapped answers.

    Resamples know of documents and seeds, but call too many equal systems different where labels
    are rare: a resample loses or doubles the one document that a label has. Swapping keeps the
    documents. With as many seeds on both sides it is exact if a document's answers could as well
    have come from the other system, which is more than an equal mean, and it knows nothing of
    seeds. So systems differ where both say so (benchmarks/interval_coverage.py): that is our
    choice. With one seed a system, p is about these two runs: what luck of training does to a
    system neither test can know.

    Args:
        observed: Difference of the means on the whole test split.
        first: The metric of the first system a resample, shape ``(r,)``.
        second: The same of the second, from the same resampled documents.
        swapped: The difference once answers of some documents are swapped, shape ``(r,)``.

    Returns:
        The difference with a 95 % interval, and the larger of two shares: of resamples whose
        difference lies at least as far from the mean of all of them as the observed one lies from
        zero, and of swaps that leave at least as large a difference.

    Source:
        bergkirkpatrick2012significance (abstract and introduction read), in the form of the code
        of dror2018hitchhiker, here two-sided; yeh2000accurate (abstract and introduction read).
    """
    gaps = first - second
    low, high = interval(gaps)
    p = share_as_far(gaps - gaps.mean(), observed)
    if swapped is not None:
        p = max(p, share_as_far(swapped, observed))
    return Difference(observed, low, high, p)


def share_as_far(gaps: NDArray[np.float64], observed: float) -> float:
    """Give the share of differences, the observed one among them, at least as far from zero.

    Args:
        gaps: Differences by chance, shape ``(r,)``.
        observed: The one that was observed.
    """
    # Those that are the same in exact arithmetic differ by rounding.
    extreme = int((np.abs(gaps) >= abs(observed) - ROUNDING).sum())
    return (extreme + 1) / (len(gaps) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of comparisons.

    Args:
        p_values: One a comparison, 0..1.

    Returns:
        Corrected ones in the same order; below 0.05 means significant at 5 % for the whole family.

    Source:
        holm1979 (abstract read; steps as in statsmodels, which the tests compare with).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = highest
    return corrected
