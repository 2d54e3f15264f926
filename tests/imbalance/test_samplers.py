"""Samplers: reproducible, within their limits, and of the same size every epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longdoc.documents import catalog
from longdoc.documents.imbalance import imbalance_ratios, measure
from longdoc.errors import SettingsError
from longdoc.imbalance import SAMPLERS, ImbalanceSettings
from longdoc.imbalance.answer import prior_shift, work_out
from longdoc.imbalance.distribution_balanced import centre
from longdoc.imbalance.frequencies import Frequencies, count
from longdoc.imbalance.samplers import class_aware, lp_ros, ml_ros, oversampling

NAMES = list(SAMPLERS)


def long_tail(documents=400, labels=12, seed=0, per_document=1.3):
    """Make a label matrix whose counts fall as 1 / rank, with some documents without labels."""
    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, labels + 1)
    chances = np.minimum(0.9, per_document * shares / shares.sum())
    return generator.random((documents, labels)) < chances


def draws(name, truth, epoch=0, seed=0, **numbers):
    answer = work_out(ImbalanceSettings(sampler=name, **numbers), truth, "multi-label", seed)
    return answer.draw(epoch)


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_depends_on_seed_and_number_alone(name):
    truth = long_tail()
    again = [draws(name, truth, epoch=3, seed=7).tolist() for _ in range(2)]
    assert again[0] == again[1]
    assert again[0] != draws(name, truth, epoch=4, seed=7).tolist()
    assert again[0] != draws(name, truth, epoch=3, seed=8).tolist()


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(NAMES),
    seed=st.integers(0, 99),
    labels=st.integers(1, 9),
    documents=st.integers(1, 80),
    repeats=st.integers(1, 6),
    growth=st.sampled_from([0.1, 0.5, 0.9, 3.0]),
    dense=st.sampled_from([0.5, 1.3, 3.0]),
)
def test_every_epoch_is_as_long_and_no_document_occurs_too_often(
    name, seed, labels, documents, repeats, growth, dense
):
    truth = long_tail(documents, labels, seed, dense)
    numbers = ImbalanceSettings(sampler=name, max_repeats=repeats, growth=growth)
    answer = work_out(numbers, truth, "multi-label", seed)
    sizes = set()
    for epoch in range(6):
        rows = answer.draw(epoch)
        sizes.add(len(rows))
        assert rows.min() >= 0
        assert rows.max() < documents
        if name != "class_aware":
            times = np.bincount(rows, minlength=documents)
            assert times.min() >= 1, "every document is there"
            assert times.max() <= repeats
    assert len(sizes) == 1


@pytest.mark.parametrize("name", NAMES)
def test_rare_labels_become_less_rare(name):
    truth = long_tail(2000, 20)
    rows = draws(name, truth)
    before, after = truth.mean(axis=0), truth[rows].mean(axis=0)
    rare = before < np.median(before)
    assert (after[rare] / before[rare]).mean() > 1.2
    assert measure(truth[rows]).mean_ratio < measure(truth).mean_ratio


def test_oversampling_repeats_by_the_mean_over_the_rarest_label():
    truth = np.zeros((10, 2), dtype=bool)
    truth[:8, 0] = True  # 8 documents; the mean label has 5
    truth[8:, 1] = True  # 2 documents: 2.5 times
    assert oversampling.repeats(truth, 10).tolist() == [1.0] * 8 + [2.5] * 2
    assert oversampling.repeats(truth, 2).tolist() == [1.0] * 8 + [2.0] * 2
    rows = oversampling.draw(truth, 10, np.random.default_rng(0))
    assert len(rows) == 13
    both = sorted(np.bincount(rows)[8:].tolist())
    assert both == [2, 3]


def test_what_is_left_to_chance_is_fair():
    truth = np.zeros((100, 2), dtype=bool)
    truth[:80, 0] = True
    truth[80:, 1] = True
    generator = np.random.default_rng(1)
    times = sum(np.bincount(oversampling.draw(truth, 10, generator)) for _ in range(400)) / 400
    assert times[80:].min() > 2.3
    assert times[80:].max() < 2.7


def test_ml_ros_clones_documents_of_labels_above_the_mean_ratio_until_they_are_not():
    truth = np.zeros((30, 3), dtype=bool)
    truth[:20, 0] = True
    truth[20:28, 1] = True
    truth[28:, 2] = True  # ratios 1, 2.5, 10; the mean is 4.5
    rows = ml_ros.draw(truth, 10.0, 10, np.random.default_rng(0))
    clones = rows[30:]
    assert set(clones.tolist()) <= {28, 29}
    assert len(clones) == 3, "20 / 5 = 4 is the first ratio not above 4.5"
    few = ml_ros.draw(truth, 0.04, 10, np.random.default_rng(0))
    assert len(few) == 31
    capped = ml_ros.draw(truth, 10.0, 2, np.random.default_rng(0))
    assert len(capped) == 32


def test_lp_ros_shares_clones_among_rare_sets():
    truth = np.zeros((30, 3), dtype=bool)
    truth[:20, 0] = True
    truth[20:28, 1] = True
    truth[28:, [1, 2]] = True  # sets of 20, 8 and 2 documents; the mean set has 10
    rows = lp_ros.draw(truth, 0.4, 10, np.random.default_rng(0))
    clones = rows[30:]
    assert len(clones) == 10
    assert ((clones >= 20) & (clones < 28)).sum() == 2, "as many as it lacks"
    assert (clones >= 28).sum() == 8, "its share, and what the other set did not need"


def test_class_aware_sampling_asks_for_every_label_alike():
    truth = np.zeros((120, 3), dtype=bool)
    truth[:100, 0] = True
    truth[100:110, 1] = True
    truth[110:112, 2] = True  # and eight documents without labels, which are a group too
    rows = class_aware.draw(truth, np.random.default_rng(0))
    assert len(rows) == 120
    groups = [rows < 100, (rows >= 100) & (rows < 110), (rows >= 110) & (rows < 112), rows >= 112]
    assert [int(group.sum()) for group in groups] == [30, 30, 30, 30]
    assert np.bincount(rows)[100:110].tolist() == [3] * 10, "documents come in rounds"


@pytest.mark.parametrize("name", NAMES)
def test_documents_without_any_label_are_drawn_as_they_are(name):
    rows = draws(name, np.zeros((5, 2), dtype=bool))
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]


def test_a_run_is_told_what_sampling_did():
    truth = long_tail()
    answer = work_out(ImbalanceSettings(sampler="oversampling"), truth, "multi-label", 0)
    rows = answer.draw(0)
    assert answer.notes["documents"] == {"before": 400, "after": len(rows)}
    assert answer.notes["label_documents"]["before"] == truth.sum(axis=0).tolist()
    assert answer.notes["label_documents"]["after"] == truth[rows].sum(axis=0).tolist()


def test_mu_is_computed_from_the_training_labels():
    truth = np.array([[True, False], [True, True]])
    # document 1: r = 1; document 2: 1/2 and 1 over 3/2
    assert centre(truth) == pytest.approx((np.mean([1, 1 / 3, 2 / 3]) + 2 / 3) / 2)
    answer = work_out(ImbalanceSettings(loss="db"), truth, "multi-label", 0)
    assert answer.notes["mu"] == centre(truth)
    given_mu = work_out(ImbalanceSettings(loss="db", mu=0.3), truth, "multi-label", 0)
    assert given_mu.notes["mu"] == 0.3
    assert "mu" not in work_out(ImbalanceSettings(), truth, "multi-label", 0).notes
    assert centre(np.zeros((2, 2), dtype=bool)) == 0.9


def test_mu_of_reuters_is_the_published_one(real_data):
    corpus = catalog.load(catalog.DataSettings(dataset="reuters-21578", task="r90"))
    found = centre(corpus.truth(corpus.splits["train"]))
    # The authors print 0.9059 on NLTK's copy, which lacks a document of ours, and use 0.9.
    assert round(found, 2) == round(0.9059126888942193, 2)


@pytest.mark.parametrize("kind", ["multi-label", "binary", "multi-class"])
def test_prior_correction_brings_a_perfect_model_back(kind):
    """A model that gives the sampled frequencies for every document gives the real ones."""
    if kind == "multi-class":
        sampled, real = count([50, 50], 100), count([90, 10], 100)
        logits = np.log([0.5, 0.5]) + prior_shift(sampled, real, kind)
        scores = np.exp(logits) / np.exp(logits).sum()
        assert scores == pytest.approx([0.9, 0.1])
        return
    sampled, real = count([50], 100), count([10], 100)
    logit = 0.0 + prior_shift(sampled, real, kind)
    assert 1 / (1 + np.exp(-logit)) == pytest.approx(0.1)


def test_prior_correction_without_a_sampler_is_refused():
    truth = long_tail()
    with pytest.raises(
        SettingsError, match=r"imbalance\.prior_correction must be left out where no"
    ):
        work_out(ImbalanceSettings(prior_correction=True), truth, "multi-label", 0)
    numbers = ImbalanceSettings(prior_correction=True, sampler="oversampling")
    answer = work_out(numbers, truth, "multi-label", 0)
    assert answer.logit_shift.shape == (12,)
    assert answer.logit_shift[-1] < 0, "a rare label was made more frequent"


def test_an_epoch_is_the_same_whatever_was_done_to_the_one_before():
    truth = np.eye(6, dtype=bool)[[0] * 9 + [1] * 3 + [2]]
    draw = work_out(ImbalanceSettings(sampler="oversampling"), truth, "multi-label", 0).draw
    wanted = draw(0).tolist()
    draw(0)[:] = 5
    assert draw(0).tolist() == wanted


def test_a_binary_answer_has_one_logit():
    truth = np.array([[True, False]] * 30 + [[False, True]] * 3)
    for loss in ("db", "cb", "class_balanced"):
        answer = work_out(
            ImbalanceSettings(loss=loss, sampler="oversampling", prior_correction=True),
            truth, "binary", 0,
        )  # fmt: skip
        assert answer.logit_shift.shape == (1,)


def test_log_odds_are_finite_for_labels_of_none_or_all():
    found = Frequencies(count([0, 10, 5], 10).counts, 10).prior_logits()
    assert found.tolist() == pytest.approx([-np.log(19), np.log(19), 0.0])


def test_imbalance_measures_by_hand():
    truth = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0]], dtype=bool)
    found = measure(truth)
    assert found.ratios.tolist() == [1.0, 4.0, 4.0]
    assert found.mean_ratio == 3.0
    assert found.variation == pytest.approx(np.std([1, 4, 4], ddof=1) / 3)
    both = 1 - 2 / 2.5  # ratios 1 and 4: geometric mean 2, arithmetic 2.5
    assert found.scumble == pytest.approx(2 * both / 5)
    assert found.label_scumble.tolist() == pytest.approx([2 * both / 4, both, both])
    nothing = measure(np.zeros((3, 2), dtype=bool))
    assert (nothing.mean_ratio, nothing.scumble) == (0.0, 0.0)
    assert np.isnan(imbalance_ratios(np.array([0, 0]))).all()


@pytest.mark.parametrize("kind", ["multi-label", "multi-class"])
def test_prior_correction_leaves_what_sampling_cannot_change(kind):
    """A label on no document, or on all, is so after sampling as well."""
    every = [100, 145] if kind == "multi-label" else [60, 90]
    real, sampled = count([every[0], 0, 5], 100), count([every[1], 0, 50], 145)
    shift = prior_shift(sampled, real, kind)
    assert shift[1] == 0
    assert (shift[0] == 0) == (kind == "multi-label")
    assert shift[2] < -1
