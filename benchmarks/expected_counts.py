"""Rare labels given as often on validation as in training: a threshold that needs no positive.

    python benchmarks/expected_counts.py runs

For each system, means over its seeds: micro-F1 / macro-F1 on validation and test, and the tail's
macro-F1 on the test. With the runs' own thresholds a label; with thresholds by expected counts for
labels below the head; and with each label's own threshold drawn to the one by expected counts
(`thresholds.prior: expected-count`) instead of the global one. Below each system stands how well
the tail is ranked on the test: the mean of its labels' average precisions, and its highest score.
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


def rows(run):
    """Give each kind of thresholds' numbers: micro and macro of both splits, the tail's macro."""
    parts = run.predictions()
    counts, borders = np.array(run.data["training_counts"]), run.settings.thresholds
    for name, cut in cuts(run, parts["validation"]).items():
        numbers = []
        for split in ("validation", "test"):
            part = parts[split]
            found = classification.averages(part.truth, part.scores >= cut)
            numbers += [found["micro-f1"], found["macro-f1"]]
        test = parts["test"]
        groups = classification.group_averages(
            test.truth, test.scores >= cut, counts, borders.head, borders.tail
        )
        yield name, [*numbers, groups.get("tail-macro-f1", np.nan)]
    rare = counts <= borders.tail
    precisions = average_precisions(test.truth[:, rare], test.scores[:, rare])
    nothing = [np.nan] * 2
    yield (
        "ranks the tail",
        [*nothing, np.nanmean(precisions), test.scores[:, rare].max(), np.nan],
    )


def main():
    print("| system | seeds | thresholds | validation | test | tail |\n|---|---|---|---|---|---|")
    runs = [store.load(folder) for folder in sorted(Path(sys.argv[1]).glob("[!.]*"))]
    for system, group in store.by_system(runs).items():
        seeds = [dict(rows(run)) for run in group]
        for name in seeds[0]:
            mean = np.mean([seed[name] for seed in seeds], axis=0)
            cells = [
                f"{mean[0]:.3f} / {mean[1]:.3f}",
                f"{mean[2]:.3f} / {mean[3]:.3f}",
                f"{mean[4]:.3f}",
            ]
            shown = " | ".join(cells).replace("nan / nan", "").replace("nan", "")
            print(f"| {system} | {len(group)} | {name} | {shown} |")


if __name__ == "__main__":
    main()
