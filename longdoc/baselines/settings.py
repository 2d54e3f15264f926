"""Simple systems that always stand in the comparison."""

import math
from dataclasses import dataclass
from typing import Literal

from longdoc.settings import chosen, cited, require


@dataclass(frozen=True, kw_only=True)
class BaselineSettings:
    """What a user would pick instead of a backbone."""

    name: Literal["none", "majority", "tfidf-svm"] = chosen("none", "a backbone is trained")
    """none: train a backbone. majority: the most frequent label for every document. tfidf-svm: a
    linear SVM a label on TF-IDF features."""
    ngrams: int = chosen(2, "words and pairs of words; read off neither paper", unit="words")
    """Longest run of words that is a feature."""
    features: int = chosen(
        200_000, "more than the pairs that occur twice in Reuters", unit="features"
    )
    """At most so many features, the most frequent ones."""
    c: float = cited(
        1.0, "chalkidis2022lexglue", "repository, TF-IDF+SVM grid", note="the grid is 0.1, 1, 10"
    )
    """The SVM's C: how much a misclassified training document weighs against a simple rule."""

    name_weight: float = chosen(
        0.0, "the SVM as lin2023linear has it; 2 is best out of folds on Reuters (long-tail.md)"
    )
    """How much a label's own name counts for it. The cosine of a document and the name on TF-IDF,
    times this, becomes one more feature of that label; 0 leaves it out. Rare labels gain where
    names are words that documents use."""

    def __post_init__(self) -> None:
        for name in ("ngrams", "features", "c"):
            require(getattr(self, name) > 0, f"baseline.{name}", "above 0", getattr(self, name))
        finite = 0 <= self.name_weight < math.inf
        require(finite, "baseline.name_weight", "0 or more, and finite", self.name_weight)
