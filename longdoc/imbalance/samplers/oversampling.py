"""Documents of rare labels are repeated, each at most so often.

Letters: ``c`` labels.
"""

import numpy as np
from numpy.typing import NDArray


def draw(
    truth: NDArray[np.bool_], max_repeats: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw an epoch in which labels rarer than the mean label come closer to it.

    A document is repeated (mean / n) times for its rarest label of n documents, at most
    ``max_repeats`` times. What is not whole of that is left to chance: each epoch another choice.

    Args:
        truth: Shape (documents, c).
        max_repeats: How often a document may occur.
        generator: Makes the choice.

    Returns:
        Row numbers, every document at least once; always as many.

    Source:
        The rule is ours: random oversampling for several labels a document.
    """
    times = repeats(truth, max_repeats)
    whole = np.floor(times).astype(np.int64)
    rest = times - whole
    order = generator.permutation(len(times))
    more = int(rest.sum() + 1e-9)
    if more:
        # Evenly spaced marks on the line of all remainders: exactly so many, none twice.
        line = rest[order].cumsum()
        marks = (generator.random() + np.arange(more)) * line[-1] / more
        whole[order[np.searchsorted(line, marks, side="right")]] += 1
    return np.repeat(np.arange(len(times)), whole)


def repeats(truth: NDArray[np.bool_], max_repeats: int) -> NDArray[np.float64]:
    """Give how often each document occurs in the mean, 1 or more, shape (documents,)."""
    counts = truth.sum(axis=0)
    borne = counts > 0
    wanted = np.ones(len(counts))
    if borne.any():
        wanted[borne] = np.clip(counts[borne].mean() / counts[borne], 1.0, max_repeats)
    times = np.ones(len(truth))
    rows, labels = np.nonzero(truth)
    np.maximum.at(times, rows, wanted[labels])
    return times
