"""One system from every fold of the training documents: each is validated on what it did not see.

A label with eight training documents has one of them among a tenth for validation, and a threshold
cannot be chosen on one. Out of their folds all eight are there.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from longdoc.documents import splits
from longdoc.documents.document import Corpus
from longdoc.experiments import ensemble, store
from longdoc.experiments.settings import Settings
from longdoc.experiments.store import Outcome, Run
from longdoc.predictions import Predictions
from longdoc.progress import Progress, silent
from longdoc.training import workplace

FOLDER = "folds"
Make = Callable[[Settings, Path, str, Corpus, Progress], Path]


def execute(
    settings: Settings, corpus: Corpus, folder: Path, make: Make, progress: Progress = silent
) -> Outcome:
    """Train a system on each fold's rest, and read all of them as one.

    Args:
        settings: Of the whole; ``data.folds`` says how many.
        corpus: Training and validation are the same documents, all there are to learn from.
        folder: The run's, while it is at work; the folds' own runs stay in it.
        make: Makes or finds one run, from settings, folder for runs, name, documents and progress.
        progress: Told how far all folds are.

    Returns:
        Validation scores out of the folds, one row a document; test scores are the mean of all
        systems' logits.

    Raises:
        LongdocError: A fold's run cannot be made.

    Source:
        scikit-learn's ``CalibratedClassifierCV`` with ``ensemble=True`` (documentation read).
        LibMultiLabel's thresholds (lin2023linear; ``train_thresholding`` read) are chosen across
        folds too, and its one model is then fitted on all documents; ours are averaged instead,
        since a long training is not made once more for one model.
    """
    number = settings.data.folds or 0
    places = []
    for fold in range(1, number + 1):

        def tell(share: float, message: str, fold: int = fold) -> None:
            progress((fold - 1 + share) / number, f"fold {fold} of {number}: {message}")

        own = replace(settings, data=replace(settings.data, fold=fold))
        part = splits.crossed(corpus, number, fold, settings.data.split_seed)
        places.append(make(own, folder / FOLDER, f"fold-{fold}", part, tell))
    if not workplace.is_main_process():
        return Outcome({}, {}, {}, [])
    return _together([store.load(place) for place in places], corpus, folder)


def _together(runs: list[Run], corpus: Corpus, folder: Path) -> Outcome:
    weights = [1 / len(runs)] * len(runs)
    members = [
        ensemble.Member(run.folder, run.system, weight)
        for run, weight in zip(runs, weights, strict=True)
    ]
    ensemble.save(members, folder)
    found = [run.predictions() for run in runs]
    scores = [part["test"].scores for part in found]
    test = replace(found[0]["test"], scores=ensemble.combine(scores, weights, corpus.kind))
    parts = {"validation": _out_of_fold(found, corpus), "test": test}
    # What settings came to differs little between folds; each fold's own run has its own.
    notes = {**runs[0].environment["notes"], "folds": len(runs)}
    if "interrupted" in notes:
        notes["interrupted"] = any(run.environment["notes"]["interrupted"] for run in runs)
    history = [
        {"fold": fold, **record} for fold, run in enumerate(runs, 1) for record in run.history()
    ]
    return Outcome(parts, _costs(runs), notes, history)


def _out_of_fold(found: list[dict[str, Predictions]], corpus: Corpus) -> Predictions:
    """Put the folds' validation documents together, in the corpus's order."""
    held = [part["validation"] for part in found]
    ids = [name for part in held for name in part.ids]
    rows = {name: row for row, name in enumerate(ids)}
    order = [rows[document.id] for document in corpus.splits["validation"]]

    def whole(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in held])[order]

    names = ("truth", "scores", "tokens", "seen")
    return replace(
        held[0],
        ids=tuple(ids[row] for row in order),
        # Each fold numbers its own groups.
        groups=splits.group_numbers(corpus.splits["validation"]),
        **{name: whole(name) for name in names},
    )


def _costs(runs: list[Run]) -> dict[str, Any]:
    """Add up what the folds cost."""
    costs = ensemble.costs([run.timings for run in runs])
    if "train_tokens" in runs[0].timings:
        costs["train_tokens"] = sum(run.timings["train_tokens"] for run in runs)
        costs["train_tokens_per_second"] = costs["train_tokens"] / costs["train_seconds"]
        costs["steps"] = sum(run.timings["steps"] for run in runs)
    return costs
