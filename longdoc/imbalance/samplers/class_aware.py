"""A label is drawn, then a document that bears it.

Letters: ``c`` labels.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def draw(truth: NDArray[np.bool_], generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw an epoch in which every label is asked for as often as any other.

    Labels, and each label's documents, come in shuffled rounds. Documents without labels count as
    one label more. With several labels a document, frequent ones come along with rare ones.

    Args:
        truth: Shape (documents, c).
        generator: Makes the choice.

    Returns:
        Row numbers, as many as documents; some may be missing, others occur often.

    Source:
        shen2016relay, class-aware sampling (as passed on by others; the paper was not read). There
        an epoch is longer: c times the documents of the most frequent label.
    """
    groups = [np.flatnonzero(column) for column in truth.T]
    groups.append(np.flatnonzero(~truth.any(axis=1)))
    rounds = [_rounds(group, generator) for group in groups if len(group)]
    labels = _rounds(np.arange(len(rounds)), generator)
    return np.array([next(rounds[next(labels)]) for _ in range(len(truth))], dtype=np.int64)


def _rounds(values: NDArray[np.int64], generator: np.random.Generator) -> Iterator[int]:
    """Give values in one shuffled round after the other."""
    while True:
        yield from generator.permutation(values).tolist()
