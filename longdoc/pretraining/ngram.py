"""What a language model must beat: how often tokens occur, alone and behind others.

Letters: ``v`` entries of the vocabulary, ``n`` the order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDERS = (2, 3, 4)


def unigram(tokens: NDArray[np.int64], vocabulary: int) -> NDArray[np.float64]:
    """Give each token's log probability by its frequency, one added to each count, shape (v,)."""
    counts = np.bincount(tokens, minlength=vocabulary) + 1.0
    return np.log(counts / counts.sum())


@dataclass(frozen=True)
class _Level:
    """Counts of one order; keys are token numbers side by side in one integer, sorted."""

    keys: NDArray[np.int64]
    counts: NDArray[np.int64]
    contexts: NDArray[np.int64]
    totals: NDArray[np.int64]
    kinds: NDArray[np.int64]
    discount: float


class KneserNey:
    """An interpolated Kneser-Ney model with one discount an order.

    Args:
        documents: Token numbers of each training document; n-grams do not reach across them.
        vocabulary: v.
        order: n; lower where v ** n does not fit 63 bits.

    Source:
        kneser1995backingoff (continuation counts); chen1999smoothing, Sec. 4.1 (interpolated form;
        D = n1 / (n1 + 2 n2), eq. 14 there). Neither paper was read; the formulas are those of
        SRILM's manual, ngram-discount(7), as BerkeleyLM's KneserNeyLmReaderCallback quotes them.

    Example:
        >>> model = KneserNey([np.array([0, 1, 0, 1, 0, 2])], 4, order=2)
        >>> every = [model.log_probabilities(np.array([0, token]))[0] for token in range(4)]
        >>> round(float(np.exp(every).sum()), 9)
        1.0
    """

    def __init__(self, documents: list[NDArray[np.int64]], vocabulary: int, order: int) -> None:
        self.vocabulary = vocabulary
        self.bits = max(1, int(vocabulary - 1).bit_length())
        self.order = min(order, 63 // self.bits)
        self.levels = self._count(documents)

    def _count(self, documents: list[NDArray[np.int64]]) -> list[_Level]:
        """Count from the highest order down; a lower one counts kinds of what stands before."""
        found: list[_Level] = []
        keys: NDArray[np.int64] | None = None
        for order in range(self.order, 0, -1):
            grams = np.concatenate([self._grams(d, order) for d in documents])
            if keys is None:
                seen, counts = np.unique(grams, return_counts=True)
            else:
                # How many kinds of tokens stand before it; at a document's beginning none does.
                low = keys & ((1 << (self.bits * order)) - 1)
                seen, counts = np.unique(low, return_counts=True)
                missing = np.setdiff1d(np.unique(grams), seen)
                both = np.concatenate([seen, missing])
                counts = np.concatenate([counts, np.ones(len(missing), counts.dtype)])
                rank = np.argsort(both)
                seen, counts = both[rank], counts[rank]
            found.append(self._level(seen, counts))
            keys = seen
        return found[::-1]

    def _level(self, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> _Level:
        contexts, place, kinds = np.unique(keys >> self.bits, return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, place) if len(place) else np.zeros(0, np.int64)
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        discount = once / (once + 2 * twice) if once else 0.5
        return _Level(keys, counts, contexts, totals, kinds, discount)

    def _grams(self, tokens: NDArray[np.int64], order: int) -> NDArray[np.int64]:
        """Give a document's n-grams of one order as keys; none if it is shorter."""
        size = len(tokens) - order + 1
        if size <= 0:
            return np.zeros(0, np.int64)
        keys = np.zeros(size, np.int64)
        for place in range(order):
            keys = (keys << self.bits) | tokens[place : place + size].astype(np.int64)
        return keys

    def log_probabilities(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the log probability of each token of a document but the first, in natural logs."""
        single = self.levels[0]
        found = self._interpolate(single, tokens.astype(np.int64), 1.0 / self.vocabulary)
        for size in range(2, min(self.order, len(tokens)) + 1):
            keys = self._grams(tokens, size)
            behind = found[size - 1 :]
            found[size - 1 :] = self._interpolate(self.levels[size - 1], keys, behind)
        return np.log(found[1:])

    def perplexity(self, documents: list[NDArray[np.int64]]) -> float:
        """Give the perplexity of documents of two tokens or more."""
        found = np.concatenate([self.log_probabilities(tokens) for tokens in documents])
        return float(np.exp(-found.mean()))

    def _interpolate(
        self, level: _Level, keys: NDArray[np.int64], lower: NDArray[np.float64] | float
    ) -> NDArray[np.float64]:
        counts = _look_up(level.keys, level.counts, keys)
        context = keys >> self.bits
        totals = _look_up(level.contexts, level.totals, context)
        kinds = _look_up(level.contexts, level.kinds, context)
        whole = np.maximum(totals, 1)
        mixed = np.maximum(counts - level.discount, 0) / whole
        mixed += level.discount * kinds / whole * lower
        return np.where(totals > 0, mixed, lower)


def _look_up(
    keys: NDArray[np.int64], values: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.int64]:
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
