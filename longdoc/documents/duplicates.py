"""Which documents say the same: exact copies and near copies."""

import hashlib
import re
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from longdoc.documents.document import Document

SHINGLE = 5
"""Words a shingle; the resemblance of two texts is the Jaccard index of their shingle sets
(broder1997resemblance). The width is our choice."""

LARGEST = 20_000
"""Documents beyond which only exact copies are looked for, so that memory stays bounded."""


def distinct(
    documents: Sequence[Document],
    resemblance: float = 0.8,
    content: Callable[[Document], str] = lambda document: document.text,
) -> list[Document]:
    """Leave out every document that repeats an earlier one.

    Args:
        documents: In the order in which the first of two copies is kept.
        resemblance: Jaccard index of the 5-word shingles from which two count as copies, 0..1.
        content: What of a document is compared.

    Returns:
        The documents that stay, in their order.

    Source:
        broder1997resemblance.
    """
    first: dict[str, tuple[Document, list[str]]] = {}
    for document in documents:
        words = re.findall(r"\w+|[^\w\s]", content(document))
        digest = hashlib.sha256(" ".join(words).encode("utf-8", "replace")).hexdigest()
        first.setdefault(digest, (document, words))
    unique = [document for document, _ in first.values()]
    if len(unique) > LARGEST or len(unique) < 2:
        return unique
    marks = _shingles([words for _, words in first.values()])
    return [unique[row] for row in _first_of_each(marks, resemblance)]


def hashed_shingles(words: Sequence[str]) -> NDArray[np.uint64]:
    """Hash every run of ``SHINGLE`` words, in order; a shorter text is one run.

    Returns:
        Shape (runs,), at least one.
    """
    numbers = np.array([zlib.crc32(w.encode("utf-8", "replace")) for w in words], dtype=np.uint64)
    width = min(SHINGLE, len(numbers))
    hashed = np.zeros(len(numbers) - width + 1, dtype=np.uint64)
    for offset in range(width):
        # Multiplied last, so that the last word too reaches the upper bits, which are kept.
        hashed = (hashed + numbers[offset : offset + len(hashed)]) * np.uint64(0x9E3779B97F4A7C15)
    return hashed


def _shingles(texts: Sequence[Sequence[str]]) -> sparse.csr_array:
    """Mark which hashed shingles a text has, shape (texts, 2**24)."""
    rows = []
    for words in texts:
        hashed = hashed_shingles(words)
        rows.append(np.unique(hashed >> np.uint64(40)).astype(np.int64))
    starts = np.cumsum([0, *(len(row) for row in rows)])
    ones = np.ones(starts[-1], dtype=np.float32)
    return sparse.csr_array((ones, np.concatenate(rows), starts), shape=(len(texts), 2**24))


def _first_of_each(marks: sparse.csr_array, resemblance: float) -> list[int]:
    sizes = np.diff(marks.indptr)
    dropped = np.zeros(len(sizes), dtype=bool)
    for start in range(0, len(sizes), 256):
        shared = (marks[start : start + 256] @ marks.T).tocoo()
        rows, columns = shared.row + start, shared.col
        jaccard = shared.data / (sizes[rows] + sizes[columns] - shared.data)
        near = (jaccard >= resemblance) & (columns > rows)
        for row, column in sorted(zip(rows[near].tolist(), columns[near].tolist(), strict=True)):
            if not dropped[row]:
                dropped[column] = True
    return np.flatnonzero(~dropped).tolist()
