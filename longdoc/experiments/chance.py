"""What luck of documents and seeds can do to systems' metrics."""

import itertools
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from longdoc.metrics import significance
from longdoc.metrics.classification import Matrix

METRICS = ("micro-f1", "macro-f1")
Values = dict[str, NDArray[np.float64]]
"""A number for each resample, of every metric."""


def together(given: Iterable[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
    """Give the groups of the test documents, as the run has them that joins most of them."""
    known = (groups for groups in given if groups is not None)
    return min(known, key=lambda groups: int(groups.max()), default=None)


def resample(
    name: str, answers: Sequence[sparse.csr_array], truth: Matrix, weights: NDArray[np.float32]
) -> Values:
    """Compute both metrics of every resample, averaged over seeds drawn anew each time."""
    found = [significance.resampled_f1(truth, part.toarray(), weights) for part in answers]
    seed = zlib.crc32(name.encode())  # another stream of seeds for each system
    return {
        metric: significance.mean_over_seeds(part, seed)
        for metric, part in zip(METRICS, zip(*found, strict=True), strict=True)
    }


def swap(
    names: Sequence[str],
    answers: Mapping[str, Sequence[sparse.csr_array]],
    truth: Matrix,
    swaps: NDArray[np.float32],
) -> dict[tuple[str, str], Values]:
    """Compute each pair's differences once answers of some documents are swapped.

    Of as many seeds the first swaps with the first, the second with the second; else each with
    each, which is no longer exact. All swap the answers of the same documents.
    """
    found = {}
    for first, second in itertools.combinations(names, 2):
        each = itertools.product if len(answers[first]) != len(answers[second]) else zip
        gaps = [
            significance.swapped_gaps(truth, ours.toarray(), theirs.toarray(), swaps)
            for ours, theirs in each(answers[first], answers[second])
        ]
        micro, macro = np.mean(gaps, axis=0)
        found[first, second] = dict(zip(METRICS, (micro, macro), strict=True))
    return found
