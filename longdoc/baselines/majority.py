"""The most frequent training label for every document."""

import numpy as np
from numpy.typing import NDArray


def scores(training_counts: NDArray[np.int64], documents: int) -> NDArray[np.float32]:
    """Give score 1 to the most frequent training label and 0 to all others.

    Args:
        training_counts: Training documents a label, shape ``(c,)``.
        documents: How many documents to score.

    Returns:
        Shape ``(documents, c)``.

    Example:
        >>> scores(np.array([2, 5]), 1)
        array([[0., 1.]], dtype=float32)
    """
    row = np.zeros(len(training_counts), dtype=np.float32)
    row[int(np.argmax(training_counts))] = 1.0
    return np.tile(row, (documents, 1))
