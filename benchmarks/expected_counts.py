"""Rare labels given as often on validation as in training: a threshold that needs no positive.

    python benchmarks/expected_counts.py runs

For each run, micro-F1 / macro-F1 on validation and test, and the tail's macro-F1 on the test: with
the run's own thresholds a label; with thresholds by expected counts for labels below the head; and
with each label's own threshold drawn to the one by expected counts instead of the global one.
"""

import sys
from pathlib import Path

import numpy as np

from longdoc.experiments import store
from longdoc.metrics import classification
from longdoc.metrics.thresholds import best_threshold


def by_expected_counts(scores, share):
    """Give thresholds at which each label is given to its share of the documents, or to one."""
    ordered = -np.sort(-scores.astype(float), axis=0)
    count = np.clip(np.round(share * len(scores)).astype(int), 1, len(scores) - 1)
    columns = np.arange(scores.shape[1])
    return (ordered[count - 1, columns] + ordered[count, columns]) / 2


def cuts(run, validation):
    counts = np.array(run.data["training_counts"])
    expected = by_expected_counts(validation.scores, counts / run.data["documents"]["train"])
    own = np.array(
        [
            best_threshold(validation.truth[:, column], validation.scores[:, column])
            for column in range(len(counts))
        ]
    )
    positives = validation.truth.sum(axis=0)
    weight = positives / (positives + run.settings.thresholds.shrinkage)
    plain = np.array(run.metrics["thresholds"]["per-label"])
    return {
        "per-label": plain,
        "expected below head": np.where(counts < run.settings.thresholds.head, expected, plain),
        "drawn to expected": weight * own + (1 - weight) * expected,
    }


def main():
    print("| run | thresholds | validation | test | tail |\n|---|---|---|---|---|")
    for folder in sorted(Path(sys.argv[1]).glob("[!.]*")):
        run = store.load(folder)
        parts = run.predictions()
        counts, borders = np.array(run.data["training_counts"]), run.settings.thresholds
        for name, cut in cuts(run, parts["validation"]).items():
            cells = []
            for split in ("validation", "test"):
                part = parts[split]
                found = classification.averages(part.truth, part.scores >= cut)
                cells.append(f"{found['micro-f1']:.3f} / {found['macro-f1']:.3f}")
            test = parts["test"]
            groups = classification.group_averages(
                test.truth, test.scores >= cut, counts, borders.head, borders.tail
            )
            tail = f"{groups['tail-macro-f1']:.3f}" if "tail-macro-f1" in groups else ""
            print(f"| {run.system} | {name} | {' | '.join(cells)} | {tail} |")


if __name__ == "__main__":
    main()
