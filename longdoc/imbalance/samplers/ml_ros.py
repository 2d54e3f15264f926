"""Clones of documents that bear rare labels.

Letters: ``c`` labels.
"""

import numpy as np
from numpy.typing import NDArray

from longdoc.documents.imbalance import imbalance_ratios


def draw(
    truth: NDArray[np.bool_], growth: float, max_repeats: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw an epoch with clones of documents of labels whose imbalance ratio is above the mean.

    The rare labels take turns; each clones one of its documents by chance, and leaves once its
    ratio, counted with the clones, is no longer above the mean ratio there was at the beginning.

    Args:
        truth: Shape (documents, c).
        growth: Clones, as a share of the documents.
        max_repeats: How often a document may occur.
        generator: Makes the choice.

    Returns:
        Row numbers: every document once, then the clones, at most ``growth`` times the documents.

    Source:
        charte2015addressing, ML-ROS. The paper could not be read; public ports agree on what is
        said here but for the moment a label leaves, here after its clone.
    """
    mean = float(np.nanmean(imbalance_ratios(truth.sum(axis=0)))) if truth.any() else 0.0
    counts = truth.sum(axis=0).astype(np.int64)
    ratios = imbalance_ratios(counts)
    rare = [label for label in range(len(counts)) if ratios[label] > mean]
    bearing = {label: np.flatnonzero(truth[:, label]) for label in rare}
    times = np.ones(len(truth), dtype=np.int64)
    clones: list[int] = []
    wanted = int(growth * len(truth))
    while rare and len(clones) < wanted:
        for label in list(rare):
            free = bearing[label][times[bearing[label]] < max_repeats]
            if len(free) and len(clones) < wanted:
                document = int(free[generator.integers(len(free))])
                clones.append(document)
                times[document] += 1
                counts += truth[document]
            if not len(free) or counts.max() / counts[label] <= mean:
                rare.remove(label)
    return np.concatenate([np.arange(len(truth)), np.array(clones, dtype=np.int64)])
