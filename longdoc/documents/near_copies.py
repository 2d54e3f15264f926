"""Groups of texts that say nearly the same, among tens of thousands of long documents.

MinHash finds candidates, the Jaccard index of their five-word shingles decides.

Letters: ``n`` texts, ``s`` shingles of a text, ``h`` hash functions.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from longdoc.documents.duplicates import hashed_shingles
from longdoc.progress import Progress, silent

BANDS, ROWS = 21, 6
"""Two texts meet where all rows of a band agree: of pairs with resemblance 0.8 this misses one in
six hundred, of pairs with 0.9 one in ten million."""
MOST_COMPARED = 64
"""Texts of one bucket, not known to be of its group, that a text is compared with, so that a bucket
of texts which are alike but not near copies does not take time with the square of its size."""
MOST_OF_A_GROUP = 8
"""Texts of one group, the last ones, among these, so that large groups do not take time with it
either. Both numbers are our choice."""
SURELY_NOT = 0.15
"""How far below the wanted resemblance the estimate must be for a pair not to be looked at: above
three times the standard error of the estimate."""

MOST_REMEMBERED = 2_000_000
"""Pairs that are known to be apart, so that another band does not compare them again."""
WORD = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
"""What stands between blanks; a sign of Chinese, Japanese or Korean is a word of its own."""

Numbers = NDArray[np.uint32]


def groups(
    texts: Iterable[str],
    resemblance: float = 0.8,
    progress: Progress = silent,
    total: int | None = None,
) -> list[list[int]]:
    """Group texts of which each is a near copy of another of its group.

    Args:
        texts: ``n`` texts; read one by one, and not kept.
        resemblance: Jaccard index from which two are near copies, 0..1.
        progress: Told how far it is.
        total: ``n``, if it is known, for the progress.

    Returns:
        Groups of at least two, by number of the text, sorted. A group is connected: its first and
        last text may be less alike than the bound.

    Source:
        broder1997resemblance; broder1998minwise.

    Example:
        >>> words = [str(number) for number in range(200)]
        >>> texts = [" ".join(words), "nothing of the kind", " ".join([*words[:190], "x"])]
        >>> groups(texts)
        [[0, 2]]
    """
    sets, signatures = [], []
    for number, text in enumerate(texts):
        sets.append(shingles(text))
        signatures.append(signature(sets[-1]))
        if number % 256 == 0 and total:
            progress(0.8 * number / total, "near copies: signatures")
    if len(sets) < 2:
        return []
    grouping = _Grouping(sets, np.stack(signatures), resemblance)
    for band in range(BANDS):
        progress(0.8 + 0.2 * band / BANDS, "near copies: candidates")
        for members in _buckets(grouping.signatures[:, band * ROWS : (band + 1) * ROWS]):
            grouping.settle(members)
    return grouping.found()


def shingles(text: str) -> Numbers:
    """Give the hashed five-word shingles of a text, each once, shape ``(s,)``; s is at least 1."""
    hashed = hashed_shingles(WORD.findall(text.lower()))
    return np.unique((hashed >> np.uint64(32)).astype(np.uint32))


def _multipliers() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    generator = np.random.default_rng(0)  # fixed: the same texts give the same groups
    odd = generator.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return odd, generator.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64)


FACTORS, OFFSETS = _multipliers()


def signature(marks: Numbers) -> Numbers:
    """Give the smallest value that each hash function takes on a set, shape ``(h,)``.

    Two signatures agree in a share of places that estimates the Jaccard index of the sets.
    """
    least = np.full(len(FACTORS), np.iinfo(np.uint32).max, dtype=np.uint32)
    for start in range(0, len(marks), 4096):
        part = marks[start : start + 4096, None].astype(np.uint64)
        hashed = ((part * FACTORS + OFFSETS) >> np.uint64(32)).astype(np.uint32)
        least = np.minimum(least, hashed.min(axis=0))
    return least


def jaccard(first: Numbers, second: Numbers) -> float:
    """Give the share of two sets' members that both have.

    Example:
        >>> jaccard(np.array([1, 2, 3], dtype=np.uint32), np.array([2, 3, 4], dtype=np.uint32))
        0.5
    """
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


def _buckets(band: Numbers) -> Iterator[list[int]]:
    """Give the rows that are alike, in their order."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for number, row in enumerate(np.ascontiguousarray(band)):
        alike[row.tobytes()].append(number)
    return (members for members in alike.values() if len(members) > 1)


class _Grouping:
    """Which texts are known to belong together."""

    def __init__(self, sets: Sequence[Numbers], signatures: Numbers, resemblance: float) -> None:
        self.sets, self.signatures, self.resemblance = sets, signatures, resemblance
        self.parents = list(range(len(sets)))
        self.apart: set[tuple[int, int]] = set()

    def root(self, number: int) -> int:
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def settle(self, members: Sequence[int]) -> None:
        """Join the members of a bucket that are near copies of one another."""
        groups: dict[int, list[int]] = {}  # by root, as far as they are in this bucket
        for number in members:
            mine = self.root(number)
            groups[mine] = [*groups.pop(mine, []), number]  # what grows stands last
            compared = 0
            recent = itertools.islice(reversed(groups), MOST_COMPARED)
            for root in [root for root in recent if root != mine]:
                others = groups[root][-MOST_OF_A_GROUP:][: MOST_COMPARED - compared]
                compared += len(others)
                if any(self.near(other, number) for other in others):
                    self.parents[mine] = root
                    groups[root] = groups.pop(root) + groups.pop(mine)
                    mine = root

    def near(self, first: int, second: int) -> bool:
        first, second = min(first, second), max(first, second)
        if (first, second) in self.apart:
            return False
        estimate = float((self.signatures[first] == self.signatures[second]).mean())
        enough = estimate >= self.resemblance - SURELY_NOT
        if enough and jaccard(self.sets[first], self.sets[second]) >= self.resemblance:
            return True
        if len(self.apart) >= MOST_REMEMBERED:
            self.apart.clear()
        self.apart.add((first, second))
        return False

    def found(self) -> list[list[int]]:
        together: dict[int, list[int]] = defaultdict(list)
        for number in range(len(self.sets)):
            together[self.root(number)].append(number)
        return sorted(members for members in together.values() if len(members) > 1)
