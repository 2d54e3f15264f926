"""Decide as huang2021balancing did: one threshold of 0.40, 0.41 ... 0.60, by validation micro-F1.

    python benchmarks/published_thresholds.py runs/long-tail-frozen/runs

Prints, for each system, means over its seeds: the threshold, and micro-F1 / macro-F1 on the test of
all labels and of those in the tail.
"""

import sys
from pathlib import Path

import numpy as np

from longdoc.experiments import store
from longdoc.metrics import classification

GRID = np.arange(40, 61) / 100


def measured(run):
    parts = run.predictions()
    validation, test = parts["validation"], parts["test"]
    found = [
        classification.averages(validation.truth, validation.scores >= cut)["micro-f1"]
        for cut in GRID
    ]
    cut = GRID[int(np.argmax(found))]
    decided = test.scores >= cut
    counts = np.array(run.data["training_counts"])
    borders = run.settings.thresholds
    groups = classification.group_averages(test.truth, decided, counts, borders.head, borders.tail)
    whole = classification.averages(test.truth, decided)
    names = ("micro-f1", "macro-f1")
    return [cut, *(whole[n] for n in names), *(groups[f"tail-{n}"] for n in names)]


def main():
    systems = store.by_system([store.load(f) for f in sorted(Path(sys.argv[1]).glob("[!.]*"))])
    print("| system | seeds | threshold | all | tail |\n|---|---|---|---|---|")
    for name, runs in systems.items():
        cut, micro, macro, tail_micro, tail_macro = np.mean([measured(r) for r in runs], axis=0)
        both = f"{micro:.3f} / {macro:.3f} | {tail_micro:.3f} / {tail_macro:.3f}"
        print(f"| {name} | {len(runs)} | {cut:.2f} | {both} |")


if __name__ == "__main__":
    main()
