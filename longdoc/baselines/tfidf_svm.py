"""A linear SVM a label on TF-IDF features: on long documents hard to beat (lin2023linear).

Letters: ``n`` documents, ``c`` labels, ``f`` features.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csc_array, hstack
from scipy.special import expit, softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from longdoc.baselines.settings import BaselineSettings
from longdoc.documents.document import Kind
from longdoc.errors import DataError
from longdoc.progress import Progress, silent


@dataclass(frozen=True)
class TfidfSvm:
    """A fitted baseline.

    Attributes:
        weights: Shape ``(f, c)``.
        offsets: Shape ``(c,)``.
    """

    vectorizer: TfidfVectorizer
    weights: NDArray[np.float32]
    offsets: NDArray[np.float32]

    def scores(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Score documents; a label's decision value of 0 becomes 0.5.

        Args:
            texts: ``n`` documents.
            kind: The task's.

        Returns:
            Shape ``(n, c)``.
        """
        values = self.vectorizer.transform(texts) @ self.weights + self.offsets
        found = softmax(values, axis=1) if kind == "multi-class" else expit(values)
        if kind == "binary":
            found[:, 0] = 1 - found[:, 1]
        return found.astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write features and weights, without pickle."""
        folder.mkdir(parents=True, exist_ok=True)
        words = [[word, int(column)] for word, column in self.vectorizer.vocabulary_.items()]
        about = {"vocabulary": words, "ngrams": self.vectorizer.ngram_range[1]}
        (folder / "features.json").write_text(json.dumps(about), encoding="utf-8")
        tensors = {
            "idf": self.vectorizer.idf_.astype(np.float32),
            "weights": self.weights,
            "offsets": self.offsets,
        }
        save_file(tensors, folder / "svm.safetensors")


def load(folder: Path) -> TfidfSvm:
    """Read a saved baseline.

    Raises:
        DataError: A file is missing or damaged.
    """
    try:
        about = json.loads((folder / "features.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "svm.safetensors")
        vectorizer = _vectorizer(about["ngrams"], None)
        vectorizer.vocabulary_ = dict(about["vocabulary"])
        vectorizer.idf_ = tensors["idf"].astype(float)
        return TfidfSvm(vectorizer, tensors["weights"], tensors["offsets"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        message = f"{folder}: not a saved TF-IDF baseline: {error}"
        raise DataError(message) from error


def _vectorizer(ngrams: int, features: int | None, rarest: int = 1) -> TfidfVectorizer:
    return TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, ngrams), max_features=features, min_df=rarest
    )


def _names(vectorizer: TfidfVectorizer, names: Sequence[str]) -> csc_array:
    """Give each name's features, shape ``(f, c)``, of length one; zero if no document has any.

    A name counts by its words, however often each stands in it.
    """
    counted = vectorizer.transform(names)
    counted.data = vectorizer.idf_[counted.indices]
    return csc_array(normalize(counted).T)


def fit(
    texts: Sequence[str],
    truth: NDArray[np.bool_],
    settings: BaselineSettings,
    seed: int,
    progress: Progress = silent,
    names: Sequence[str] = (),
) -> TfidfSvm:
    """Fit one SVM a label.

    With ``name_weight`` a label has one feature more, the cosine of a document with the label's
    name. As that is linear in the others, it ends up in their weights: what it changes is how
    dear it is to the SVM to rely on the words of the name, which one document may teach it.

    Args:
        texts: ``n`` training documents.
        truth: Shape ``(n, c)``.
        settings: Features and C.
        seed: Of the solver.
        progress: Told how far it is.
        names: What the ``c`` labels are called; needed with ``name_weight``.

    Raises:
        DataError: The texts have no words to count.
        ValueError: ``name_weight`` is set and there is not one name a label.

    Source:
        lin2023linear (one-vs-rest on TF-IDF; repository read).
    """
    if settings.name_weight and len(names) != truth.shape[1]:
        wanted = truth.shape[1]
        message = f"baseline.name_weight needs {wanted} names, one a label, not {len(names)}"
        raise ValueError(message)
    vectorizer = _vectorizer(settings.ngrams, settings.features, 2 if len(texts) > 50 else 1)
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError as error:
        message = f"the documents have no words that TF-IDF can count: {error}"
        raise DataError(message) from error
    directions = _names(vectorizer, names) if settings.name_weight else None
    weights = np.zeros((matrix.shape[1], truth.shape[1]), dtype=np.float32)
    offsets = np.full(truth.shape[1], -1.0, dtype=np.float32)
    for label in range(truth.shape[1]):
        marks = truth[:, label]
        if marks.all() or not marks.any():
            offsets[label] = 1.0 if marks.all() else -1.0
            continue
        machine = LinearSVC(C=settings.c, random_state=seed)
        if directions is None:
            weights[:, label] = machine.fit(matrix, marks).coef_[0]
        else:
            name = settings.name_weight * directions[:, [label]]
            learnt = machine.fit(hstack([matrix, matrix @ name], format="csr"), marks).coef_[0]
            weights[:, label] = learnt[:-1] + learnt[-1] * name.toarray()[:, 0]
        offsets[label] = machine.intercept_[0]
        progress((label + 1) / truth.shape[1], "linear SVM, one a label")
    return TfidfSvm(vectorizer, weights, offsets)
