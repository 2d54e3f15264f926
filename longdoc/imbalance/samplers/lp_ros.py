"""Clones of documents with a rare set of labels.

Letters: ``c`` labels.
"""

import numpy as np
from numpy.typing import NDArray


def draw(
    truth: NDArray[np.bool_], growth: float, max_repeats: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw an epoch in which sets of labels rarer than the mean set come closer to it.

    Clones are shared out evenly among the rare sets, the most frequent first; what a set does not
    need to reach the mean size goes to those after it.

    Args:
        truth: Shape (documents, c).
        growth: Clones, as a share of the documents.
        max_repeats: How often a document may occur.
        generator: Makes the choice.

    Returns:
        Row numbers: every document once, then the clones; always as many.

    Source:
        charte2015addressing, LP-ROS, as in the package mldr.resampling; how the rest is shared out
        differs between public ports, here it is even.
    """
    kinds = _label_sets(truth)
    sizes = np.bincount(kinds)
    mean = len(truth) / len(sizes)
    rare = sorted(np.flatnonzero(sizes < mean), key=lambda kind: (-sizes[kind], kind))
    left = int(growth * len(truth))
    clones = [np.arange(len(truth))]
    for place, kind in enumerate(rare):
        documents = np.flatnonzero(kinds == kind)
        share = -(-left // (len(rare) - place))
        most = len(documents) * (max_repeats - 1)
        more = min(share, left, most, int(mean - len(documents)))
        pool = np.repeat(documents, min(max_repeats - 1, more))
        clones.append(generator.choice(pool, more, replace=False))
        left -= more
    return np.concatenate(clones)


def _label_sets(truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the sets of labels that occur, shape (documents,)."""
    known: dict[bytes, int] = {}
    sets = [known.setdefault(row.tobytes(), len(known)) for row in np.packbits(truth, axis=1)]
    return np.array(sets, dtype=np.int64)
