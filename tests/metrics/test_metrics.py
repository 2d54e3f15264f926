"""Metrics against scikit-learn, on drawn inputs and on the corners."""

import numpy as np
import pytest
from sklearn import metrics as sk
from statsmodels.stats.multitest import multipletests

from longdoc.metrics import classification, ranking, significance, thresholds

CORNERS = {
    "drawn": (np.random.default_rng(0).random((60, 7)) < 0.3, np.random.default_rng(1).random((60, 7)) < 0.3),
    "perfect": (np.eye(4, dtype=bool), np.eye(4, dtype=bool)),
    "all wrong": (np.eye(4, dtype=bool), ~np.eye(4, dtype=bool)),
    "one label never predicted": (np.array([[1, 1], [1, 0], [0, 1]], bool), np.array([[1, 0], [1, 0], [0, 0]], bool)),
    "one label absent": (np.array([[1, 0], [1, 0]], bool), np.array([[1, 1], [0, 0]], bool)),
    "one document": (np.array([[1, 0, 1]], bool), np.array([[1, 1, 0]], bool)),
    "nothing anywhere": (np.zeros((3, 2), bool), np.zeros((3, 2), bool)),
    "constant on unequal counts": (
        np.stack([np.arange(100) >= 95, np.arange(100) < 95], 1), np.tile([False, True], (100, 1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
def test_precision_recall_and_f1_equal_scikit_learn(name, average):
    truth, decided = CORNERS[name]
    found = classification.averages(truth, decided)
    wanted = sk.precision_recall_fscore_support(truth, decided, average=average, zero_division=0)
    for measure, value in zip(("precision", "recall", "f1"), wanted, strict=False):
        assert found[f"{average}-{measure}"] == pytest.approx(value, abs=1e-12), measure


@pytest.mark.parametrize("name", CORNERS)
def test_both_accuracies_equal_scikit_learn(name):
    truth, decided = CORNERS[name]
    found = classification.averages(truth, decided)
    assert found["hamming-accuracy"] == pytest.approx(1 - sk.hamming_loss(truth, decided))
    assert found["strict-accuracy"] == pytest.approx(sk.accuracy_score(truth, decided))


def test_a_constant_answer_on_unequal_counts_has_the_value_worked_out_by_hand():
    found = classification.averages(*CORNERS["constant on unequal counts"])
    assert found["micro-f1"] == pytest.approx(0.95)
    assert found["macro-f1"] == pytest.approx((2 * 95 / (2 * 95 + 5)) / 2)


def test_label_groups_follow_the_borders():
    groups = classification.group_rows(np.array([100, 35, 34, 9, 8, 1]), head=35, tail=8)
    assert {name: rows.tolist() for name, rows in groups.items()} == {
        "head": [0, 1], "medium": [2, 3], "tail": [4, 5],
    }  # fmt: skip


def test_group_averages_equal_the_averages_of_their_columns():
    truth, decided = CORNERS["drawn"]
    counts = np.array([50, 40, 20, 10, 5, 3, 1])
    found = classification.group_averages(truth, decided, counts, 35, 8)
    wanted = classification.averages(truth[:, 4:], decided[:, 4:])
    assert found["tail-macro-f1"] == pytest.approx(wanted["macro-f1"])
    assert found["tail-micro-f1"] == pytest.approx(wanted["micro-f1"])


def test_rankings_equal_scikit_learn():
    generator = np.random.default_rng(3)
    truth, scores = generator.random((50, 6)) < 0.3, generator.random((50, 6)).astype(np.float32)
    truth[:, 5] = False
    found = ranking.rankings(truth, scores)
    rows = truth.any(1)
    wanted = np.mean([sk.average_precision_score(truth[:, c], scores[:, c]) for c in range(5)])
    assert found["map"] == pytest.approx(wanted)
    assert found["lrap"] == pytest.approx(
        sk.label_ranking_average_precision_score(truth[rows], scores[rows])
    )
    assert found["ndcg@3"] == pytest.approx(sk.ndcg_score(truth[rows], scores[rows], k=3))


def test_r_precision_divides_by_the_smaller_of_k_and_the_true_labels():
    truth = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    scores = np.array([[4, 3, 1, 2], [1, 4, 3, 2], [1, 2, 3, 4]], np.float32)
    assert ranking.r_precision_at(truth, scores, 1) == pytest.approx((1 + 0) / 2)
    assert ranking.r_precision_at(truth, scores, 3) == pytest.approx((2 / 3 + 0) / 2)
    assert ranking.r_precision_at(truth, scores, 4) == pytest.approx(1.0)


def test_rankings_of_documents_without_labels_are_zero_not_nan():
    assert ranking.rankings(np.zeros((3, 2), bool), np.ones((3, 2), np.float32)) == {"map": 0.0}


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_the_best_of_all(seed):
    generator = np.random.default_rng(seed)
    truth = generator.random((30, 3)) < 0.3
    scores = np.round(generator.random((30, 3)), 1).astype(np.float32)
    found = thresholds.best_threshold(truth, scores)
    tried = [
        sk.f1_score(truth.ravel(), (scores >= cut).ravel()) for cut in np.linspace(0.05, 1.05, 101)
    ]
    assert sk.f1_score(truth.ravel(), (scores >= found).ravel()) == pytest.approx(max(tried))


def test_the_best_threshold_parts_neighbouring_float32():
    """NumPy rounds a Python number to float32 where it is compared with such scores."""
    top = np.float32(1)
    for _ in range(4):
        top, below = np.nextafter(top, np.float32(0)), top
        scores, truth = np.array([below, top]), np.array([True, False])
        for found in (
            thresholds.best_threshold(truth, scores),
            thresholds.best_binary_threshold(truth, scores),
            thresholds.expected_count_threshold(scores, 0.5),
        ):
            assert (scores >= found).tolist() == [True, False]


@pytest.mark.parametrize("share", [0.005, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("steps", [3, 20, 10**6])
def test_the_best_threshold_is_half_way_between_two_scores_however_many_are_true(share, steps):
    generator = np.random.default_rng(steps)
    for help_ in (0.0, 0.2, 1.0):
        truth = generator.random(700) < share
        truth[3] = True
        scores = (np.ceil((generator.random(700) + help_ * truth) * steps) / steps).astype(
            np.float32
        )
        levels = np.append(np.unique(scores.astype(float))[::-1], 0.0)
        cuts = (levels[:-1] + levels[1:]) / 2
        tried = [sk.f1_score(truth, scores >= cut) for cut in cuts]
        assert thresholds.best_threshold(truth, scores) == cuts[int(np.argmax(tried))]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("seed", range(10))
def test_the_best_binary_threshold_is_the_best_macro_f1_of_all(seed, share):
    generator = np.random.default_rng(seed)
    truth = generator.random(40) < share
    truth[:2] = True, False
    scores = np.round(generator.random(40), 1).astype(np.float32)
    scores[7:] *= seed != 3  # most of them 0
    found = thresholds.best_binary_threshold(truth, scores)
    tried = [
        sk.f1_score(truth, scores >= cut, average="macro", zero_division=0)
        for cut in np.linspace(0.05, 1.05, 101)
    ]
    assert sk.f1_score(truth, scores >= found, average="macro", zero_division=0) == pytest.approx(
        max(tried)
    )


def test_who_tells_no_document_from_another_gives_the_frequent_label():
    truth = np.arange(100) < 10
    for score in (0.1, 0.9, 1.0):
        scores = np.full(100, score, np.float32)
        assert not (scores >= thresholds.best_binary_threshold(truth, scores)).any()
        assert (scores >= thresholds.best_binary_threshold(~truth, scores)).all()
    never = np.zeros(100, np.float32)
    for aims in (truth, ~truth):
        assert thresholds.best_binary_threshold(aims, never) == 0.5


@pytest.mark.parametrize("answer", [True, False])
def test_validation_with_one_label_says_nothing_of_a_threshold(answer):
    scores = np.linspace(0.1, 0.9, 9, dtype=np.float32)
    assert thresholds.best_binary_threshold(np.full(9, answer), scores) == 0.5


def test_a_threshold_without_positives_is_one_half():
    assert thresholds.best_threshold(np.zeros(4, bool), np.arange(4, dtype=np.float32)) == 0.5


def test_a_label_that_is_scored_0_everywhere_is_never_given():
    truth = np.array([[1, 1], [1, 0], [0, 1]], bool)
    scores = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    cuts = thresholds.choose(truth, scores, "multi-label", 10.0)
    for mode in thresholds.MODES:
        assert (scores[:, 1] < cuts[mode][1]).all(), mode
        assert (scores[:, 0] >= cuts[mode][0]).all(), mode


def test_rare_labels_are_drawn_towards_the_global_threshold():
    generator = np.random.default_rng(0)
    truth = np.zeros((200, 2), bool)
    truth[:80, 0], truth[:1, 1] = True, True
    scores = (0.1 + 0.5 * truth + 0.3 * generator.random((200, 2))).astype(np.float32)
    scores[0, 1] = 0.95
    cuts = thresholds.choose(truth, scores, "multi-label", 10.0)
    free = thresholds.choose(truth, scores, "multi-label", 0.0)
    overall = cuts["global"][1]
    assert abs(cuts["per-label"][1] - overall) == pytest.approx(
        abs(free["per-label"][1] - overall) / 11
    )


def test_rare_labels_can_be_drawn_to_the_threshold_that_gives_them_as_often_as_in_training():
    generator = np.random.default_rng(0)
    truth = generator.random((400, 3)) < (0.4, 0.01, 0.01)
    # Ranked well, but never above the threshold that suits the frequent label.
    scores = (truth * (0.5, 0.1, 0.1) + generator.random((400, 3)) * (0.5, 0.1, 0.1)) / 1.5
    scores = scores.astype(np.float32)
    expected = np.array([0.4, 0.01, 0.0])
    plain = thresholds.choose(truth, scores, "multi-label", 1e6)
    drawn = thresholds.choose(truth, scores, "multi-label", 1e6, expected)
    given = (scores >= drawn["per-label"]).sum(axis=0)
    assert (scores >= plain["per-label"]).sum(axis=0)[1] == 0
    assert given[:2].tolist() == [160, 4]
    assert drawn["per-label"][2] == plain["per-label"][2]  # no training document, nothing to expect
    assert (drawn["global"] == plain["global"]).all()


@pytest.mark.parametrize(
    ("scores", "share", "given"),
    [
        ([0.9, 0.1, 0.5, 0.3], 0.5, 2),
        ([0.9, 0.1, 0.5, 0.3], 0.0, 1),
        ([0.9, 0.1, 0.5, 0.3], 1.0, 4),
        ([0.9, 0.5, 0.5, 0.1], 0.5, 1),  # equal scores are not parted
        ([0.9, 0.0, 0.0, 0.0], 1.0, 1),  # what is scored 0 is not said
    ],
)
def test_a_label_is_given_to_its_share_of_the_documents(scores, share, given):
    scores = np.array(scores, np.float32)
    cut = thresholds.expected_count_threshold(scores, share)
    assert cut > 0
    assert (scores >= cut).sum() == given


@pytest.mark.parametrize("scores", [[], [0.0, 0.0], [0.4, 0.4]])
def test_where_nothing_can_be_told_apart_there_is_no_expected_threshold(scores):
    assert thresholds.expected_count_threshold(np.array(scores, np.float32), 0.2) is None


def test_every_mode_gives_a_threshold_a_label():
    truth, scores = np.eye(3, dtype=bool), np.eye(3, dtype=np.float32)
    for kind in ("multi-label", "multi-class"):
        cuts = thresholds.choose(truth, scores, kind, 10.0)
        assert {mode: len(values) for mode, values in cuts.items()} == dict.fromkeys(
            thresholds.MODES, 3
        )


def test_resampled_f1_with_every_document_once_is_the_plain_one():
    truth, decided = CORNERS["drawn"]
    micro, macro = significance.resampled_f1(truth, decided, np.ones((1, 60), np.float32))
    wanted = classification.averages(truth, decided)
    assert micro[0] == pytest.approx(wanted["micro-f1"])
    assert macro[0] == pytest.approx(wanted["macro-f1"])


def test_resampled_f1_of_chosen_documents_is_theirs():
    truth, decided = CORNERS["drawn"]
    weights = np.zeros((1, 60), np.float32)
    weights[0, [3, 3, 10]] = [2, 2, 1]
    rows = [3, 3, 10]
    micro, _ = significance.resampled_f1(truth, decided, weights)
    assert micro[0] == pytest.approx(
        classification.averages(truth[rows], decided[rows])["micro-f1"]
    )


def test_a_label_that_a_resample_lost_says_nothing_in_it():
    truth = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=bool)
    decided = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1]], dtype=bool)
    weights = np.array([[1, 1, 1], [2, 1, 0]], np.float32)
    _, macro = significance.resampled_f1(truth, decided, weights)
    # The third label has no test document at all, and stays the zero that averages() counts.
    assert macro[0] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert macro[0] == pytest.approx(classification.averages(truth, decided)["macro-f1"])
    # So large a share of the mean is the third label's in every resample.
    assert macro[1] == pytest.approx(4 / 5 * 2 / 3)


def test_labels_without_a_test_document_do_not_pull_resamples_down():
    truth = np.zeros((10, 20), dtype=bool)
    truth[np.arange(10), np.arange(10)] = True
    weights = significance.document_weights(10, 2000, seed=0)
    _, macro = significance.resampled_f1(truth, truth, weights)
    assert classification.averages(truth, truth)["macro-f1"] == 0.5
    assert significance.interval(macro) == pytest.approx((0.5, 0.5))


def test_intervals_of_macro_f1_lie_around_it_where_labels_are_rare():
    generator = np.random.default_rng(0)
    truth = np.zeros((400, 60), dtype=bool)
    truth[generator.permutation(400)[:60], np.arange(60)] = True  # a document a label
    decided = truth & (generator.random(60) < 0.7)
    weights = significance.document_weights(400, 2000, seed=0)
    _, macro = significance.resampled_f1(truth, decided, weights)
    observed = classification.averages(truth, decided)["macro-f1"]
    low, high = significance.interval(macro)
    assert low < observed < high
    # Were lost labels zero, the mean would lie 0.26 below: 37 % of resamples lose a label.
    assert macro.mean() == pytest.approx(observed, abs=0.01)


def test_equal_systems_do_not_differ_and_unequal_ones_do():
    generator = np.random.default_rng(0)
    truth = generator.random((300, 5)) < 0.4
    good, bad = (
        truth ^ (generator.random(truth.shape) < 0.1),
        truth ^ (generator.random(truth.shape) < 0.3),
    )
    alike = truth ^ (generator.random(truth.shape) < 0.1)
    weights = significance.document_weights(300, 2000, seed=1)
    resampled = [significance.resampled_f1(truth, d, weights)[0] for d in (good, bad, alike)]
    plain = [classification.averages(truth, d)["micro-f1"] for d in (good, bad, alike)]
    better = significance.compare(plain[0] - plain[1], resampled[0], resampled[1])
    same = significance.compare(plain[0] - plain[2], resampled[0], resampled[2])
    assert better.p < 0.01
    assert better.low > 0
    assert same.p > 0.05
    itself = significance.compare(0.0, resampled[0], resampled[0])
    assert itself.p == 1.0


def test_under_the_null_hypothesis_p_is_rarely_small():
    generator = np.random.default_rng(5)
    small = 0
    for _ in range(60):
        truth = generator.random((120, 3)) < 0.4
        pair = [truth ^ (generator.random(truth.shape) < 0.2) for _ in range(2)]
        weights = significance.document_weights(120, 400, seed=int(generator.integers(1e6)))
        resampled = [significance.resampled_f1(truth, d, weights)[0] for d in pair]
        plain = [classification.averages(truth, d)["micro-f1"] for d in pair]
        small += significance.compare(plain[0] - plain[1], *resampled).p < 0.05
    assert small <= 8  # 5 % of 60 is 3; more than 8 has a chance below 1 %


def test_swapped_answers_are_counted_as_if_the_systems_had_given_them():
    generator = np.random.default_rng(2)
    truth = generator.random((40, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.0]
    first, second = (truth ^ (generator.random(truth.shape) < 0.2) for _ in range(2))
    swapped = significance.swaps(40, 1203, seed=3)
    assert swapped.shape == (1203, 40)
    assert set(np.unique(swapped)) == {0, 1}
    assert swapped.mean() == pytest.approx(0.5, abs=0.01)
    swapped[0], swapped[1] = 0, 1
    found = significance.swapped_gaps(truth, first, second, swapped)
    for place in (0, 1, 2, 700, 1202):
        turned = swapped[place, :, None] == 1
        ours, theirs = np.where(turned, second, first), np.where(turned, first, second)
        for metric, gaps in zip(("micro-f1", "macro-f1"), found, strict=True):
            gap = (
                classification.averages(truth, ours)[metric]
                - classification.averages(truth, theirs)[metric]
            )
            assert gaps[place] == pytest.approx(gap, abs=1e-12)
    assert found[1][0] == pytest.approx(-found[1][1]) != 0


def test_systems_differ_where_resamples_and_swaps_both_say_so():
    resamples = np.linspace(-1, 1, 101)
    far, near = np.full(99, 5.0), np.full(99, 0.1)
    both = [significance.compare(0.9, resamples, 0 * resamples, gaps).p for gaps in (far, near)]
    alone = significance.compare(0.9, resamples, 0 * resamples).p
    assert both == [1.0, alone]
    assert alone == pytest.approx(13 / 102)  # 12 of 101 lie as far, and the observed one


def test_where_labels_are_rare_equal_systems_are_rarely_called_different():
    # As benchmarks/interval_coverage.py, smaller: labels with ten to one of 600 documents.
    generator = np.random.default_rng(1)
    rate = np.geomspace(10, 1, 40) / 600
    recall, alarms = generator.beta(4, 2, 40), generator.beta(2, 6, 40) * rate / (1 - rate)
    swapped = significance.swaps(600, 400, seed=0)
    called = np.zeros(2, dtype=int)
    for _ in range(200):
        truth = generator.random((600, 40)) < rate
        for label in np.flatnonzero(~truth.any(axis=0)):
            truth[generator.integers(600), label] = True
        pair = [generator.random(truth.shape) < np.where(truth, recall, alarms) for _ in range(2)]
        weights = significance.document_weights(600, 400, seed=int(generator.integers(1e6)))
        resampled = [significance.resampled_f1(truth, d, weights)[1] for d in pair]
        plain = [classification.averages(truth, d)["macro-f1"] for d in pair]
        gaps = significance.swapped_gaps(truth, *pair, swapped)[1]
        for place, given in enumerate((None, gaps)):
            p = significance.compare(plain[0] - plain[1], *resampled, given).p
            called[place] += p < 0.05
    # A test at 5 % calls 10 of 200; more than 19 has a chance below 0.5 %.
    assert called[0] > 19 >= called[1]


@pytest.mark.parametrize("values", [[0.01, 0.04, 0.03], [0.5], [0.001, 0.001, 0.9, 0.04, 0.02]])
def test_holm_equals_statsmodels(values):
    wanted = multipletests(values, method="holm")[1]
    assert significance.holm(values) == pytest.approx(wanted.tolist())


@pytest.mark.parametrize("seeds", [2, 3, 7])
def test_means_of_drawn_seeds_vary_as_means_of_new_seeds_would(seeds):
    generator = np.random.default_rng(seeds)
    values = generator.normal(size=seeds)
    found = significance.mean_over_seeds([np.full(40_000, value) for value in values], seed=0)
    assert found.mean() == pytest.approx(values.mean(), abs=0.02)
    assert found.var() == pytest.approx(values.var(ddof=1) / seeds, rel=0.03)


def test_one_seed_is_taken_as_it_is():
    values = np.random.default_rng(0).normal(size=50)
    assert np.array_equal(significance.mean_over_seeds([values], seed=0), values)


def test_documents_of_a_group_are_drawn_and_swapped_together():
    groups = np.array([2, 0, 1, 0, 2, 2])
    weights = significance.document_weights(6, 1203, 0, groups)
    swapped = significance.swaps(6, 1203, 0, groups)
    for drawn in (weights, swapped):
        for number in range(3):
            alike = drawn[:, groups == number]
            assert (alike == alike[:, :1]).all()
        assert len(np.unique(drawn[:, :3], axis=0)) > 4
    # As many groups as there are, whatever their sizes.
    assert (weights[:, :3].sum(axis=1) == 3).all()
    assert set(np.unique(swapped)) == {0.0, 1.0}
    alone = np.arange(6)
    assert np.array_equal(
        significance.document_weights(6, 50, 1, alone), significance.document_weights(6, 50, 1)
    )
    assert np.array_equal(significance.swaps(6, 50, 1, alone), significance.swaps(6, 50, 1))


def test_lexglue_counts_documents_without_a_label():
    generator = np.random.default_rng(0)
    truth, decided = (generator.random((60, 4)) < 0.25 for _ in range(2))
    found = classification.lexglue(truth, decided)
    whole = [
        np.hstack([part, 1 - part.max(axis=1, keepdims=True)])
        for part in (truth.astype(int), decided.astype(int))
    ]
    for average in ("micro", "macro"):
        wanted = sk.f1_score(*whole, average=average, zero_division=0)
        assert found[f"lexglue-{average}-f1"] == pytest.approx(wanted)
    nothing = np.zeros((3, 2), dtype=bool)
    assert classification.lexglue(nothing, nothing) == {
        "lexglue-micro-f1": 1.0,
        "lexglue-macro-f1": 1 / 3,
    }


def test_each_group_of_labels_is_ranked_by_itself():
    generator = np.random.default_rng(3)
    truth = generator.random((40, 12)) < 0.2
    scores = generator.random((40, 12)).astype(np.float32)
    training = np.array([200, 50, 49, 1, 0, 0, 7, 80, 0, 3, 2, 60])
    found = ranking.by_shots(truth, scores, training)
    columns = {"frequent": [0, 1, 7, 11], "few": [2, 3, 6, 9, 10], "zero": [4, 5, 8]}
    for name, own in columns.items():
        rows = truth[:, own].any(axis=1)
        precisions = []
        for right, given in zip(truth[rows][:, own], scores[rows][:, own], strict=True):
            best = sorted(range(len(own)), key=lambda i: -given[i])[:5]
            precisions.append(sum(right[i] for i in best) / min(5, right.sum()))
        assert found[name]["rp@5"] == pytest.approx(np.mean(precisions))
        assert (found[name]["labels"], found[name]["documents"]) == (len(own), rows.sum())


def test_groups_without_documents_are_left_out():
    truth = np.zeros((3, 4), dtype=bool)
    truth[0, 0] = True
    found = ranking.by_shots(truth, np.ones((3, 4), dtype=np.float32), np.array([9, 9, 0, 0]))
    assert list(found) == ["few"]
