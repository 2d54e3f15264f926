"""An ensemble as a run: from the predictions of its members to predictions of its own."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longdoc.documents import splits
from longdoc.documents.document import Corpus, Document
from longdoc.errors import RunError
from longdoc.experiments import ensemble, store
from longdoc.experiments.settings import Settings
from longdoc.experiments.store import HELD_OUT, Outcome
from longdoc.metrics import thresholds
from longdoc.metrics.classification import Matrix
from longdoc.predictions import Predictions, decide
from longdoc.progress import Progress, silent

PARTS = 5
"""Of the validation documents, as many as scikit-learn's cross-validation has by default."""

Rows = NDArray[np.int64]
Reader = Callable[[NDArray[np.float32]], Matrix]


def execute(
    settings: Settings, corpus: Corpus, folder: Path, progress: Progress = silent
) -> Outcome:
    """Combine the runs that the settings name.

    Args:
        settings: For the members, the metric and the thresholds at which weights are chosen.
        corpus: The documents, which must be those of every member.
        folder: The run's, while it is at work.
        progress: Told how far choosing the weights is.

    Raises:
        RunError: A member is no complete run, or was made on other documents or in other folds, or
            two of one name differ in more than the seed.
    """
    runs = [store.load(member) for member in settings.ensemble.members]
    digest = corpus.digest()
    for member in runs:
        folds, ours = member.settings.data.folds, settings.data.folds
        if folds != ours:
            message = (
                f"ensemble.members: {member.folder} was made with data.folds {folds}, not {ours}"
            )
            raise RunError(message)
        if member.data["digest"] != digest:
            message = f"ensemble.members: {member.folder} was made on other documents"
            raise RunError(message)
    found = [member.predictions() for member in runs]
    systems = {
        name: [runs.index(member) for member in group]
        for name, group in store.by_system(runs).items()
    }
    groups = list(systems.values())
    scored = [_together(found, group, "validation", corpus) for group in groups]
    truth, metric = found[0]["validation"].truth, settings.training.metric
    read = reader(settings, corpus, truth)
    weights = ensemble.weigh(truth, scored, corpus.kind, metric, read, progress)
    each = {place: w / len(g) for g, w in zip(groups, weights, strict=True) for place in g}
    members = [
        ensemble.Member(member.folder, member.system, each[place])
        for place, member in enumerate(runs)
    ]
    ensemble.save(members, folder)
    parts = {}
    for split in HELD_OUT:
        scores = [part[split].scores for part in found]
        combined = ensemble.combine(scores, [m.weight for m in members], corpus.kind)
        parts[split] = replace(found[0][split], scores=combined)
    notes: dict[str, object] = {"ensemble": dict(zip(systems, weights, strict=True))}
    return Outcome(parts, ensemble.costs([run.timings for run in runs]), notes, [])


def reader(settings: Settings, corpus: Corpus, truth: Matrix) -> Reader:
    """Give what reads validation scores as they will be read, at thresholds of the settings.

    Thresholds fit the documents that they were chosen on, the more so the more a system scatters
    its scores. So each document is read at thresholds chosen without it, which are nearer to what
    weights will do on new documents.

    Args:
        settings: For the thresholds and the seed of the parts.
        corpus: Its ``n`` validation documents are read.
        truth: Theirs, shape ``(n, c)``.

    Returns:
        From scores, shape ``(n, c)``, to decisions of the same shape.
    """
    cuts, documents = settings.thresholds, len(corpus.splits["train"])
    expected = thresholds.expected_shares(cuts, corpus.training_counts(), documents)
    parts = _parts(corpus.splits["validation"], settings.data.split_seed)

    def read(scores: NDArray[np.float32]) -> Matrix:
        decided = np.empty(truth.shape, dtype=bool)
        for held, rest in parts:
            cut = thresholds.choose(
                truth[rest], scores[rest], corpus.kind, cuts.shrinkage, expected
            )[cuts.mode]
            decided[held] = decide(scores[held], corpus.kind, cut)
        return decided

    return read


def _parts(documents: Sequence[Document], seed: int) -> list[tuple[Rows, Rows]]:
    """Give the rows of each part, and of all others; all of them twice where none can be parted."""
    rows = {document.id: row for row, document in enumerate(documents)}
    number = min(PARTS, len({document.group or document.id for document in documents}))
    whole = np.arange(len(documents))
    if number < 2:
        return [(whole, whole)]
    parts = splits.folds(documents, number, seed)
    held = [np.array([rows[document.id] for document in part], dtype=np.int64) for part in parts]
    return [(part, np.setdiff1d(whole, part)) for part in held]


def _together(
    found: Sequence[dict[str, Predictions]], group: Sequence[int], split: str, corpus: Corpus
) -> Any:
    """Average one system's runs."""
    scores = [found[place][split].scores for place in group]
    return ensemble.combine(scores, [1 / len(group)] * len(group), corpus.kind)
