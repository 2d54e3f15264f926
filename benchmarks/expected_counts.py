"""Rare labels given as often on validation as in training: a threshold that needs no positive.

    python benchmarks/expected_counts.py runs

For each run, micro-F1 / macro-F1 on validation and test, and the tail's macro-F1 on the test: with
the run's own thresholds a label; with thresholds by expected counts for labels below the head; and
with each label's own threshold drawn to the one by expected counts (`thresholds.prior:
expected-count`) instead of the global one. Below each run stands how well the tail is ranked on the
test: the mean of its labels' average precisions, and its highest score.
"""

import sys
from pathlib import Path

import numpy as np

from longdoc.experiments import store
from longdoc.metrics import classification, thresholds
from longdoc.metrics.ranking import average_precisions


def cuts(run, validation):
    counts = np.array(run.data["training_counts"])
    share = counts / run.data["documents"]["train"]
    settings = run.settings.thresholds
    drawn = thresholds.choose(
        validation.truth, validation.scores, validation.kind, settings.shrinkage, share
    )
    alone = thresholds.choose(validation.truth, validation.scores, validation.kind, 1e9, share)
    plain = np.array(run.metrics["thresholds"]["per-label"])
    return {
        "per-label": plain,
        "expected below head": np.where(counts < settings.head, alone["per-label"], plain),
        "drawn to expected": drawn["per-label"],
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
        rare = counts <= borders.tail
        precisions = average_precisions(test.truth[:, rare], test.scores[:, rare])
        highest = test.scores[:, rare].max()
        print(f"| {run.system} | ranks the tail | | {np.nanmean(precisions):.3f} | {highest:.3f} |")


if __name__ == "__main__":
    main()
