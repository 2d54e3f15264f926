"""Predictions to every number a report needs: thresholds from validation, scores on the test."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from longdoc.metrics import classification, ranking, thresholds
from longdoc.metrics.thresholds import MODES, ThresholdSettings
from longdoc.predictions import Predictions, decide


def evaluate(
    parts: Mapping[str, Predictions],
    training: Sequence[int],
    documents: int,
    settings: ThresholdSettings,
) -> dict[str, Any]:
    """Compute all metrics of a run.

    Args:
        parts: Predictions of ``validation``, from which thresholds are chosen, and ``test``.
        training: Training documents a label, shape ``(c,)``.
        documents: Training documents in all.
        settings: Shrinkage and the borders of label groups.

    Returns:
        Plain values for ``metrics.json``: ``thresholds`` by mode, one a label; ``splits`` with
        ``ranking`` metrics, multi-label also by frequent, few and zero ``shots``, and one entry a
        mode; ``labels``, a row a label on the test.
    """
    validation = parts["validation"]
    counts = np.asarray(training)
    expected = thresholds.expected_shares(settings, counts, documents)
    cuts = thresholds.choose(
        validation.truth, validation.scores, validation.kind, settings.shrinkage, expected
    )
    splits: dict[str, Any] = {}
    for split, part in parts.items():
        splits[split] = {"ranking": ranking.rankings(part.truth, part.scores)}
        if part.kind == "multi-label":
            splits[split]["shots"] = ranking.by_shots(part.truth, part.scores, counts)
        for mode in MODES:
            decided = decide(part.scores, part.kind, cuts[mode])
            splits[split][mode] = {
                **classification.averages(part.truth, decided),
                **classification.group_averages(
                    part.truth, decided, counts, settings.head, settings.tail
                ),
            }
            if part.kind == "multi-label":
                splits[split][mode] |= classification.lexglue(part.truth, decided)
    return {
        "thresholds": {mode: cuts[mode].tolist() for mode in MODES},
        "splits": splits,
        "labels": label_rows(parts["test"], counts, cuts),
    }


def label_rows(part: Predictions, training: Any, cuts: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Measure every label on a split.

    Args:
        part: Predictions of the split.
        training: Training documents a label, shape ``(c,)``.
        cuts: Thresholds by mode, one a label.

    Returns:
        A row a label: documents it has in ``train`` and in the split, average precision, and
        precision, recall and F1 by mode.
    """
    average = ranking.average_precisions(part.truth, part.scores)
    rows: list[dict[str, Any]] = []
    for column, label in enumerate(part.labels):
        row: dict[str, Any] = {
            "label": label,
            "train": int(training[column]),
            part.split: int(part.truth[:, column].sum()),
            "average-precision": None if np.isnan(average[column]) else float(average[column]),
        }
        rows.append(row)
    for mode in MODES:
        counts = classification.count(part.truth, decide(part.scores, part.kind, cuts[mode]))
        measures = {
            "precision": classification.precision(counts),
            "recall": classification.recall(counts),
            "f1": classification.f1(counts),
        }
        for column, row in enumerate(rows):
            row[mode] = {name: float(values[column]) for name, values in measures.items()}
    return rows
