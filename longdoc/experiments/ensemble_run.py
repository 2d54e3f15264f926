"""An ensemble as a run: from the predictions of its members to predictions of its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longdoc.documents.document import Corpus
from longdoc.errors import RunError
from longdoc.experiments import ensemble, store
from longdoc.experiments.settings import Settings
from longdoc.experiments.store import HELD_OUT, Outcome
from longdoc.metrics import thresholds
from longdoc.metrics.classification import Vector
from longdoc.predictions import Predictions
from longdoc.progress import Progress, silent


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
        RunError: A member is no complete run, or was made on other documents, or two of one name
            differ in more than the seed.
    """
    runs = [store.load(member) for member in settings.ensemble.members]
    digest = corpus.digest()
    for member in runs:
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
    weights = _weights(settings, corpus, found[0]["validation"].truth, scored, progress)
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


def _weights(
    settings: Settings,
    corpus: Corpus,
    truth: NDArray[np.bool_],
    scored: Sequence[NDArray[np.float32]],
    progress: Progress,
) -> tuple[float, ...]:
    """Choose the systems' weights at the thresholds at which the ensemble will be read."""
    cuts, documents = settings.thresholds, len(corpus.splits["train"])
    expected = thresholds.expected_shares(cuts, corpus.training_counts(), documents)

    def cut(scores: NDArray[np.float32]) -> Vector:
        return thresholds.choose(truth, scores, corpus.kind, cuts.shrinkage, expected)[cuts.mode]

    return ensemble.weigh(truth, scored, corpus.kind, settings.training.metric, cut, progress)


def _together(
    found: Sequence[dict[str, Predictions]], group: Sequence[int], split: str, corpus: Corpus
) -> Any:
    """Average one system's runs."""
    scores = [found[place][split].scores for place in group]
    return ensemble.combine(scores, [1 / len(group)] * len(group), corpus.kind)
