"""Losses: equal to their equations, finite where those are not, and clear about wrong input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longdoc.errors import SettingsError, UnknownNameError
from longdoc.imbalance import LOSSES, build_loss
from tests import tolerances
from tests.assertions import assert_close
from tests.imbalance import equations

COUNTS, DOCUMENTS = [150, 40, 8, 3, 1, 100], 200


def batch(seed=0, documents=32, spread=3.0, labels=6):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(documents, labels, generator=generator, dtype=torch.float64)
    targets = (torch.rand(documents, labels, generator=generator) < 0.3).double()
    targets[0] = 0.0  # one document without a label, one with all
    targets[1] = 1.0
    return logits, targets


def value_and_gradient(compute, logits):
    z = logits.clone().requires_grad_()
    loss = compute(z)
    loss.backward()
    return loss.detach(), z.grad


def assert_same(found, wanted, logits, tolerance):
    values = [value_and_gradient(compute, logits) for compute in (found, wanted)]
    assert_close(values[0][0], values[1][0], tolerance, "value")
    scale = float(values[1][1].abs().max())
    assert_close(values[0][1] / scale, values[1][1] / scale, tolerance, "gradient")


@pytest.mark.parametrize("name", list(equations.PARTS))
def test_published_losses_equal_their_equations(name):
    logits, targets = batch()
    loss = build_loss(name, COUNTS, DOCUMENTS)
    assert_same(
        lambda z: loss(z, targets),
        lambda z: equations.published(name, z, targets, COUNTS, DOCUMENTS),
        logits,
        tolerances.FLOAT64,
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(equations.PARTS)),
    counts=st.lists(st.integers(1, 99), min_size=2, max_size=7),
    seed=st.integers(0, 1000),
)
def test_published_losses_equal_their_equations_for_drawn_labels(name, counts, seed):
    logits, targets = batch(seed, documents=5, labels=len(counts))
    loss = build_loss(name, counts, 100)
    found, gradient = value_and_gradient(lambda z: loss(z, targets), logits)
    wanted, other = value_and_gradient(
        lambda z: equations.published(name, z, targets, counts, 100), logits
    )
    assert_close(found, wanted, tolerances.FLOAT64)
    assert_close(gradient, other, tolerances.FLOAT64)


def test_a_wrong_constant_would_be_noticed():
    logits, targets = batch()
    for name, change in (
        ("db", {"kappa": 0.06}),
        ("cb_ntr", {"scale": 2.1}),
        ("r_fl", {"mu": 0.8}),
    ):
        loss = build_loss(name, COUNTS, DOCUMENTS, **change)
        with pytest.raises(AssertionError):
            assert_close(
                loss(logits, targets),
                equations.published(name, logits, targets, COUNTS, DOCUMENTS),
                tolerances.FLOAT64,
            )


def test_asymmetric_loss_equals_its_equation_and_is_a_sum():
    logits, targets = batch()
    loss = build_loss("asl", COUNTS, DOCUMENTS)
    assert_same(
        lambda z: loss(z, targets), lambda z: equations.asymmetric(z, targets), logits, 1e-9
    )
    plain = build_loss("asl", COUNTS, DOCUMENTS, gamma_negative=0, gamma_positive=0, margin=0)
    bce = build_loss("bce", COUNTS, DOCUMENTS)
    assert_close(plain(logits, targets), bce(logits, targets) * logits.numel(), tolerances.FLOAT64)


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5, 1.0])
def test_positives_weigh_by_a_power_of_their_odds(power):
    logits, targets = batch()
    loss = build_loss("weighted_bce", COUNTS, DOCUMENTS, power=power, max_weight=1e6)
    counts = torch.tensor(COUNTS).double()
    weights = ((DOCUMENTS - counts) / counts) ** power
    wanted = torch.nn.BCEWithLogitsLoss(pos_weight=weights)(logits, targets)
    assert_close(loss(logits, targets), wanted, tolerances.FLOAT64)
    clipped = build_loss("weighted_bce", COUNTS, DOCUMENTS, power=power, max_weight=2.0)
    wanted = torch.nn.BCEWithLogitsLoss(pos_weight=weights.clamp(max=2.0))(logits, targets)
    assert_close(clipped(logits, targets), wanted, tolerances.FLOAT64)


def test_class_balanced_weights_average_to_one():
    logits, targets = batch()
    loss = build_loss("class_balanced", COUNTS, DOCUMENTS, beta=0.99)
    n = np.array(COUNTS)
    weights = 0.01 / (1 - 0.99**n)
    weights = torch.from_numpy(weights / weights.sum() * len(n))
    wanted = torch.nn.BCEWithLogitsLoss(weight=weights)(logits, targets)
    assert_close(loss(logits, targets), wanted, tolerances.FLOAT64)
    assert_close(
        build_loss("class_balanced", COUNTS, DOCUMENTS, beta=0)(logits, targets),
        build_loss("bce", COUNTS, DOCUMENTS)(logits, targets),
        tolerances.FLOAT64,
    )


def test_logit_adjustment_adds_the_log_odds():
    logits, targets = batch()
    loss = build_loss("logit_adjusted", COUNTS, DOCUMENTS, tau=0.7)
    n = torch.tensor(COUNTS).double()
    shifted = logits + 0.7 * torch.log(n / (DOCUMENTS - n))
    wanted = torch.nn.BCEWithLogitsLoss()(shifted, targets)
    assert_close(loss(logits, targets), wanted, tolerances.FLOAT64)


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e4, -1e4, 0.0])
def test_losses_are_finite_for_large_logits_and_for_labels_of_none_or_all(name, dtype, size):
    counts = [0, DOCUMENTS, 3, 1]
    targets = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]).to(dtype)
    logits = torch.full((4, 4), size, dtype=dtype).requires_grad_()
    loss = build_loss(name, counts, DOCUMENTS)(logits, targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_loss_falls_when_logits_move_towards_the_truth(name):
    _, targets = batch()
    loss = build_loss(name, COUNTS, DOCUMENTS)
    towards = 2 * targets - 1
    values = [float(loss(size * towards, targets)) for size in (-2.0, 0.0, 2.0, 6.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]


@pytest.mark.parametrize("name", list(LOSSES))
def test_documents_add_up_however_a_batch_is_cut(name):
    logits, targets = batch()
    loss = build_loss(name, COUNTS, DOCUMENTS)
    parts = torch.cat(
        [loss.documents(logits[i : i + 5], targets[i : i + 5]) for i in range(0, 32, 5)]
    )
    assert_close(parts, loss.documents(logits, targets), tolerances.FLOAT64)


@pytest.mark.parametrize("name", list(equations.PARTS))
def test_one_label_of_several_documents_has_the_published_equation(name):
    """Absence is a label of its own in binary tasks alone."""
    logits, targets = batch(labels=1)
    loss = build_loss(name, [30], DOCUMENTS)
    wanted = equations.published(name, logits, targets, [30], DOCUMENTS)
    assert_close(loss(logits, targets), wanted, tolerances.FLOAT64)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_is_one_graph_for_any_number_of_documents_and_labels(name):
    torch.compiler.reset()
    for labels in (4, 6):
        loss = build_loss(name, [3] * labels, DOCUMENTS)
        graph = torch.compile(loss, backend="aot_eager", fullgraph=True, dynamic=True)
        for documents in (5, 9):
            logits, targets = batch(documents=documents, labels=labels)
            assert_close(graph(logits, targets), loss(logits, targets), tolerances.FLOAT64)
    shapes = ({0: torch.export.Dim("b")},) * 2
    program = torch.export.export(loss, (logits, targets), dynamic_shapes=shapes)
    found = program.module()(logits[:3], targets[:3])
    assert_close(found, loss(logits[:3], targets[:3]), tolerances.FLOAT64)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_binary_task_has_one_logit(name):
    logits, targets = batch(labels=1)
    loss = build_loss(name, [30], DOCUMENTS, kind="binary")
    assert torch.isfinite(loss(logits, targets))
    with pytest.raises(
        SettingsError, match="a binary task has one logit, so one label count; got 6"
    ):
        build_loss(name, COUNTS, DOCUMENTS, kind="binary")


def test_a_rare_positive_weighs_more_than_its_frequent_absence():
    ones, zeros = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    for name in ("class_balanced", "cb", "weighted_bce"):
        loss = build_loss(name, [2], DOCUMENTS, kind="binary")
        assert loss(zeros, ones) > 1.5 * loss(zeros, zeros), name


@pytest.mark.parametrize("name", [card.name for card in LOSSES.values() if card.softmax])
def test_one_of_several_labels_has_a_softmax_form(name):
    logits, _ = batch()
    labels = torch.arange(len(logits)) % len(COUNTS)
    targets = torch.nn.functional.one_hot(labels, len(COUNTS)).double()
    numbers = {"bce": {}, "fl": {"gamma": 0}, "weighted_bce": {"power": 0},
               "class_balanced": {"beta": 0}, "logit_adjusted": {"tau": 0}}[name]  # fmt: skip
    plain = build_loss(name, COUNTS, DOCUMENTS, kind="multi-class", **numbers)
    wanted = torch.nn.functional.cross_entropy(logits, labels)
    assert_close(plain(logits, targets), wanted, tolerances.FLOAT64)
    loss = build_loss(name, COUNTS, DOCUMENTS, kind="multi-class")
    huge = (1e4 * logits).requires_grad_()
    value = loss(huge, targets)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(huge.grad).all()


def test_focal_softmax_equals_its_equation():
    logits, _ = batch()
    labels = torch.arange(len(logits)) % len(COUNTS)
    targets = torch.nn.functional.one_hot(labels, len(COUNTS)).double()
    loss = build_loss("fl", COUNTS, DOCUMENTS, kind="multi-class")

    def equation(z):
        p = torch.softmax(z, dim=1)[torch.arange(len(z)), labels]
        return (-((1 - p) ** 2) * torch.log(p)).mean()

    assert_same(lambda z: loss(z, targets), equation, logits, 1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("db", [3], 10, {"gama": 1}), "the loss db has no 'gama'; did you mean gamma"),
        (("bce", [3], 10, {"gamma": 1}), "the loss bce has no 'gamma'"),
        (("db", [3], 10, {"gamma": -1.0}), r"imbalance.gamma must be in 0..100; got -1.0"),
        (
            ("db", [3, 11], 10, {}),
            "label_counts must be one whole number a label, each in 0..n_doc",
        ),
        (("db", [-1], 10, {}), "label_counts must be"),
        (("db", [], 10, {}), "label_counts must be"),
        (("db", [0.5], 10, {}), "label_counts must be"),
        (("db", [[1]], 10, {}), "label_counts must be"),
        (("db", [True, False], 10, {}), "label_counts must be"),
        (("db", ["3", "1"], 10, {}), "label_counts must be"),
        (("db", torch.tensor([True]), 10, {}), "label_counts must be"),
        (("db", torch.ones(2, device="meta"), 10, {}), "label_counts must be"),
        (("db", [1], True, {}), "n_documents must be a whole number of 1 or more; got True"),
        (("db", [0], 0, {}), "n_documents must be a whole number of 1 or more; got 0"),
        (("asl", [3, 4], 10, {"kind": "multi-class"}), "is not for labels that exclude each other"),
        (("fl", [3, 4], 10, {"kind": "multi-class", "alpha": 0.3}), "the loss fl has no 'alpha'"),
        (
            ("fl", [3, 4], 10, {"kind": "multiclass"}),
            "kind must be binary or multi-class or multi-l",
        ),
    ],
)
def test_what_makes_no_sense_is_said(arguments, message):
    name, counts, documents, numbers = arguments
    with pytest.raises(SettingsError, match=message):
        build_loss(name, counts, documents, **numbers)


def test_an_unknown_loss_names_the_nearest():
    with pytest.raises(UnknownNameError, match="no loss named 'dbb'; did you mean db"):
        build_loss("dbb", COUNTS, DOCUMENTS)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"must have the same shape \(b, c\); got \(2, 6\) and"):
        build_loss("bce", COUNTS, DOCUMENTS)(torch.zeros(2, 6), torch.zeros(2, 5))
    with pytest.raises(ValueError, match="this loss is for 1 logits a document; got 6"):
        build_loss("cb", [3], DOCUMENTS)(torch.zeros(2, 6), torch.zeros(2, 6))


@pytest.mark.parametrize("card", LOSSES.values(), ids=lambda card: card.name)
def test_each_number_of_a_loss_changes_it(card):
    logits, targets = batch()
    plain = build_loss(card.name, COUNTS, DOCUMENTS)
    for name in (*card.settings, "loss_weight"):
        known = {"mu": 0.5, "loss_weight": 3.0, "max_weight": 2.0}
        changed = known.get(name, 0.3)
        other = build_loss(card.name, COUNTS, DOCUMENTS, **{name: changed})
        assert other(logits, targets) != plain(logits, targets), name
