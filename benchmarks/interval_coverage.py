"""How often intervals of macro-F1 hold what they should, where labels have few test documents.

    python benchmarks/interval_coverage.py [TESTS]

Test sets are drawn from a population that is known: 3,000 documents, 90 labels whose expected
documents fall from 900 to one, each label with a recall and false alarms of its own, every label in
every test set at least once (as Reuters' R(90) is made). Two systems answer with the same recalls
and alarms, so that no difference between them is real. Printed are, for labels that a resample lost
counted as zero and left out: how many 95 % intervals hold the mean over all test sets, how many lie
below it, their width, and how often the two systems are called different at 5 %; then how often
they are when they swap answers, and when both tests are asked, as a comparison does.
"""

import sys

import numpy as np

from longdoc.metrics import significance
from longdoc.metrics.classification import ratio

DOCUMENTS, LABELS, RESAMPLES = 3000, 90, 1000


def as_zero(truth, decided, weights):
    """Macro-F1 of resamples as it was until 2026-11-27."""
    hits, either = (truth & decided).astype(np.float32), truth.astype(np.float32) + decided
    return ratio(2.0 * (weights @ hits), weights @ either).mean(axis=1)


def left_out(truth, decided, weights):
    return significance.resampled_f1(truth, decided, weights)[1]


def main():
    tests = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    generator = np.random.default_rng(0)
    rate = np.geomspace(900, 1, LABELS) / DOCUMENTS
    recall = generator.beta(4, 2, LABELS)
    alarms = generator.beta(2, 6, LABELS) * rate / (1 - rate)

    def answers(truth):
        return generator.random(truth.shape) < np.where(truth, recall, alarms)

    ways = {"counted as zero": as_zero, "left out": left_out}
    found = {way: [] for way in ways}
    exchanged = []
    swapped = significance.swaps(DOCUMENTS, RESAMPLES, seed=0)
    observed = []
    once = np.ones((1, DOCUMENTS), dtype=np.float32)
    for test in range(tests):
        truth = generator.random((DOCUMENTS, LABELS)) < rate
        for label in np.flatnonzero(~truth.any(axis=0)):
            truth[generator.integers(DOCUMENTS), label] = True
        pair = [answers(truth) for _ in range(2)]
        weights = significance.document_weights(DOCUMENTS, RESAMPLES, test)
        whole = [left_out(truth, decided, once)[0] for decided in pair]
        observed.append(whole[0])
        gaps = significance.swapped_gaps(truth, *pair, swapped)[1]
        exchanged.append(significance.share_as_far(gaps, whole[0] - whole[1]))
        for way, macro in ways.items():
            first, second = (macro(truth, decided, weights) for decided in pair)
            p = significance.compare(whole[0] - whole[1], first, second).p
            found[way].append((*significance.interval(first), p))
    mean = np.mean(observed)
    print(f"mean of {tests} test sets {mean:.3f}, their standard deviation {np.std(observed):.3f}")
    for way, rows in found.items():
        low, high, p = np.array(rows).T
        print(
            f"{way}: {((low <= mean) & (mean <= high)).mean():.3f} hold it, "
            f"{(high < mean).mean():.3f} lie below, width {(high - low).mean():.3f}, "
            f"{(p < 0.05).mean():.3f} called different"
        )
    # As a comparison does: both tests, and the larger p.
    larger = np.maximum(exchanged, np.array(found["left out"])[:, 2])
    alone, both = ((p < 0.05).mean() for p in (np.array(exchanged), larger))
    print(
        f"answers swapped: {alone:.3f} called different; lost labels left out and this: {both:.3f}"
    )


if __name__ == "__main__":
    main()
