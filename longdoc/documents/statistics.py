"""What documents look like before anything is trained: label distribution and lengths."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longdoc.documents.document import SPLITS, Corpus, by_frequency

WINDOWS = (512, 1024, 2048, 4096, 8192, 16384)
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class LabelCount:
    """How often one label occurs in one split."""

    split: str
    label: str
    documents: int
    share: float


def label_counts(corpus: Corpus) -> list[LabelCount]:
    """Count every label in every split, most frequent first, with its share of the documents."""
    found = []
    for split in SPLITS:
        documents = corpus.splits[split]
        counts = dict.fromkeys(by_frequency(documents), 0)
        for document in documents:
            for label in document.labels:
                counts[label] += 1
        found += [LabelCount(split, name, n, n / len(documents)) for name, n in counts.items()]
    return found


def labels_per_document(corpus: Corpus, split: str) -> float:
    """Give the mean number of labels a document (the label cardinality)."""
    documents = corpus.splits[split]
    return sum(len(d.labels) for d in documents) / len(documents) if documents else 0.0


def label_distribution(corpus: Corpus) -> dict[str, object]:
    """Give the label distribution as plain values, ready for JSON.

    Returns:
        ``{"dataset", "task", "splits": {split: {"documents", "labels": {label: documents}}}}``,
        most frequent label first; labels that a split lacks are left out of it. With
        ``label_names`` where labels have names in words.
    """
    splits: dict[str, dict[str, object]] = {}
    counted = label_counts(corpus)
    for split in SPLITS:
        labels = {row.label: row.documents for row in counted if row.split == split}
        splits[split] = {"documents": len(corpus.splits[split]), "labels": labels}
    found: dict[str, object] = {"dataset": corpus.name, "task": corpus.task, "splits": splits}
    return {**found, "label_names": dict(corpus.label_names)} if corpus.label_names else found


@dataclass(frozen=True)
class Lengths:
    """Token lengths of a set of documents.

    Attributes:
        quantiles: Share of documents to length in tokens.
        fitting: Window to (share of documents, share of tokens) that fit into it.
    """

    documents: int
    tokens: int
    quantiles: dict[float, int]
    fitting: dict[int, tuple[float, float]]


def lengths(counts: Sequence[int] | NDArray[np.int64]) -> Lengths:
    """Summarise token counts, one a document.

    Example:
        >>> lengths([100, 600]).fitting[512]
        (0.5, 0.8742857142857143)
    """
    values = np.asarray(counts, dtype=np.int64)
    if not len(values):
        message = "lengths of no documents: at least one is needed"
        raise ValueError(message)
    total = int(values.sum())
    at = np.quantile(values, QUANTILES, method="inverted_cdf").astype(int)
    fitting = {
        window: (
            float((values <= window).mean()),
            float(np.minimum(values, window).sum() / max(1, total)),
        )
        for window in WINDOWS
    }
    return Lengths(len(values), total, dict(zip(QUANTILES, at.tolist(), strict=True)), fitting)


def count_tokens(
    texts: Iterable[str], encode: Callable[[list[str]], list[int]], batch: int = 64
) -> list[int]:
    """Count tokens of many texts in batches of bounded size.

    Args:
        texts: Any number of texts.
        encode: Gives the number of tokens of each text of a batch.
        batch: Texts a call.
    """
    counts: list[int] = []
    waiting: list[str] = []
    for text in texts:
        waiting.append(text)
        if len(waiting) == batch:
            counts += encode(waiting)
            waiting = []
    return counts + (encode(waiting) if waiting else [])
