"""How imbalanced labels are.

Letters: ``c`` labels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Imbalance:
    """Measures of a data set.

    Attributes:
        ratios: Documents of the most frequent label over those of each, 1 or more; NaN for a label
            that no document bears; shape ``(c,)``.
        mean_ratio: Their mean (MeanIR).
        variation: Their standard deviation over their mean (CVIR).
        scumble: How much rare and frequent labels occur in the same documents, 0..1 (SCUMBLE):
            where it is high, repeating documents of rare labels repeats frequent labels too.
        label_scumble: The same over the documents of each label; NaN where there are none.
    """

    ratios: NDArray[np.float64]
    mean_ratio: float
    variation: float
    scumble: float
    label_scumble: NDArray[np.float64]


def imbalance_ratios(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Give IRLbl: the most frequent label's documents over each label's, shape ``(c,)``.

    Example:
        >>> imbalance_ratios(np.array([8, 2, 0]))
        array([ 1.,  4., nan])
    """
    numbers = counts.astype(float)
    return np.divide(
        numbers.max(initial=0), numbers, out=np.full(len(numbers), np.nan), where=numbers > 0
    )


def measure(truth: NDArray[np.bool_]) -> Imbalance:
    """Measure the imbalance of labels.

    Args:
        truth: Shape (documents, c).

    Returns:
        Zeros and NaN where no document has a label.

    Source:
        charte2015addressing and charte2019dealing, as in their package mldr (R/measures.R and its
        vignette). There a label without documents has the ratio 0 and counts in the mean; here it
        is left out.
    """
    ratios = imbalance_ratios(truth.sum(axis=0))
    known = ratios[~np.isnan(ratios)]
    if not len(known):
        return Imbalance(ratios, 0.0, 0.0, 0.0, ratios)
    mean = float(known.mean())
    spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    each = _document_scumble(truth, np.nan_to_num(ratios, nan=1.0))
    borne = truth.sum(axis=0)
    rows, labels = np.nonzero(truth)
    added = np.bincount(labels, each[rows], len(borne))
    of_labels = np.divide(added, borne, out=np.full(len(borne), np.nan), where=borne > 0)
    return Imbalance(ratios, mean, spread / mean, float(each.mean()), of_labels)


def _document_scumble(truth: NDArray[np.bool_], ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give one minus geometric over arithmetic mean of the ratios of a document's labels."""
    rows, borne = np.nonzero(truth)
    labels = np.maximum(1, truth.sum(axis=1))
    geometric = np.exp(np.bincount(rows, np.log(ratios)[borne], len(truth)) / labels)
    arithmetic = np.bincount(rows, ratios[borne], len(truth)) / labels
    found = 1 - np.divide(geometric, arithmetic, out=np.ones(len(truth)), where=truth.any(axis=1))
    return np.maximum(found, 0.0)
