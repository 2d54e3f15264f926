"""How often a comparison calls two systems different that are equal, at 5 %.

    python benchmarks/equal_systems.py [TESTS]

Two systems draw each label's recall and false alarms, for each seed of training, around the same
means, so that no difference between them is real. First for seeds: how strongly a seed moves recall
is given (0.02, and 0.1: more than the documents do), with two to ten seeds a system. Then for
documents that belong together: groups of ten are alike, and both systems answer all of a group
alike; with the groups known and not known.
"""

import sys

import numpy as np

from longdoc.metrics import significance

DOCUMENTS, LABELS, RESAMPLES = 1000, 10, 500
ONCE = np.ones((1, DOCUMENTS), dtype=np.float32)


def difference(truth, systems, groups, seed):
    """Give p of micro-F1 as a comparison computes it, for the decisions of each system's seeds."""
    weights = significance.document_weights(DOCUMENTS, RESAMPLES, seed, groups)
    swapped = significance.swaps(DOCUMENTS, RESAMPLES, seed, groups)
    values, observed = [], []
    for number, decided in enumerate(systems):
        each = [significance.resampled_f1(truth, one, weights)[0] for one in decided]
        values.append(significance.mean_over_seeds(each, 2 * seed + number))
        observed.append(np.mean([significance.resampled_f1(truth, d, ONCE)[0] for d in decided]))
    gaps = [
        significance.swapped_gaps(truth, *pair, swapped)[0] for pair in zip(*systems, strict=True)
    ]
    return significance.compare(observed[0] - observed[1], *values, np.mean(gaps, axis=0)).p


def answers(generator, truth, moved):
    recall = np.clip(0.7 + moved * generator.normal(), 0, 1)
    return generator.random(truth.shape) < np.where(truth, recall, 0.03)


def with_seeds(generator, seeds, moved, test):
    truth = generator.random((DOCUMENTS, LABELS)) < 0.1
    systems = [[answers(generator, truth, moved) for _ in range(seeds)] for _ in range(2)]
    return difference(truth, systems, None, test)


def in_groups(generator, known, test):
    size = 10
    truth = generator.random((DOCUMENTS // size, LABELS)) < 0.1
    groups = np.arange(DOCUMENTS) // size
    systems = [[answers(generator, truth, 0.0)[groups]] for _ in range(2)]
    return difference(truth[groups], systems, groups if known else None, test)


def main():
    tests = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    generator = np.random.default_rng(0)
    print(f"of {tests} tests of equal systems, share called different at 5 %")
    for moved in (0.02, 0.1):
        for seeds in (2, 3, 5, 10):
            found = [with_seeds(generator, seeds, moved, test) < 0.05 for test in range(tests)]
            print(
                f"recall moves by {moved} a seed, {seeds} seeds: {np.mean(found):.3f}", flush=True
            )
    for known in (False, True):
        found = [in_groups(generator, known, test) < 0.05 for test in range(tests)]
        print(f"groups of ten, {'known' if known else 'not known'}: {np.mean(found):.3f}")


if __name__ == "__main__":
    main()
