"""What people hand to losses and samplers besides lists of whole numbers."""

import numpy as np
import pytest
import torch

from longdoc.documents.document import Kind
from longdoc.errors import LongdocError, SettingsError, UnknownNameError
from longdoc.imbalance import build_loss
from longdoc.imbalance.answer import work_out
from longdoc.imbalance.catalog import LOSSES, check
from longdoc.imbalance.settings import ImbalanceSettings

LOGITS = torch.tensor([[0.3, -1.2], [2.0, 0.1]], dtype=torch.float64)
TARGETS = torch.tensor([[1, 0], [0, 1]])


@pytest.mark.parametrize(
    "counts",
    [
        (3, 1), np.array([3, 1], np.int32), np.array([3.0, 1.0]), torch.tensor([3, 1]),
        torch.tensor([3, 1], dtype=torch.bfloat16), torch.tensor([3.0, 1.0], requires_grad=True),
        np.array([3, 1], dtype=object),
    ],
)  # fmt: skip
@pytest.mark.parametrize("documents", [5, 5.0, np.int64(5), torch.tensor(5)])
def test_counts_come_in_many_kinds(counts, documents):
    wanted = build_loss("db", [3, 1], 5)(LOGITS, TARGETS)
    assert torch.equal(build_loss("db", counts, documents)(LOGITS, TARGETS), wanted)


@pytest.mark.parametrize(
    "counts",
    [None, "31", ["a", "b"], {"a": 3}, [[3], [1, 2]], [float("nan")], 3, [3j], [None], [10**400]],
)
def test_what_are_no_counts_is_refused_in_a_sentence(counts):
    with pytest.raises(SettingsError, match="label_counts must be one whole number a label"):
        build_loss("bce", counts, 5)


@pytest.mark.parametrize(
    "documents", [None, "5", 0, 2.5, float("nan"), float("inf"), 10**40, [5], {}]
)
def test_what_is_no_number_of_documents_is_refused_in_a_sentence(documents):
    with pytest.raises(SettingsError, match="n_documents must be a whole number of 1 or more"):
        build_loss("bce", [3, 1], documents)


@pytest.mark.parametrize("name", [None, 5, ["bce"], "bce "])
def test_what_is_no_name_is_refused_with_the_names_there_are(name):
    with pytest.raises(UnknownNameError, match="known: bce, weighted_bce"):
        build_loss(name, [3, 1], 5)


@pytest.mark.parametrize("number", [np.float32(3), np.int64(3), torch.tensor(3.0), 3])
def test_settings_may_be_numbers_of_numpy_and_torch(number):
    wanted = build_loss("fl", [3, 1], 5, gamma=3.0)(LOGITS, TARGETS)
    assert torch.equal(build_loss("fl", [3, 1], 5, gamma=number)(LOGITS, TARGETS), wanted)


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_setting_may_be_infinite(name, value):
    for setting in (*LOSSES[name].settings, "loss_weight"):
        with pytest.raises(SettingsError, match=f"imbalance.{setting} must be"):
            build_loss(name, [3, 1], 5, **{setting: value})


@pytest.mark.parametrize(
    "settings",
    [{"mu": -1.0}, {"scale": 1e-300}, {"loss_weight": 1e300}, {"growth": 1e9}, {"map_alpha": 1e300},
     {"max_repeats": 10**20}],
)  # fmt: skip
def test_no_setting_may_be_so_large_that_nothing_is_finite(settings):
    with pytest.raises(SettingsError, match=f"imbalance.{next(iter(settings))} must be"):
        ImbalanceSettings(**settings)


@pytest.mark.parametrize("kind", ["multi-label", "multi-class"])
@pytest.mark.parametrize("name", ["bce", "fl", "logit_adjusted"])
def test_targets_may_be_true_and_false(name, kind: Kind):
    loss = build_loss(name, [3, 1], 5, kind=kind)
    assert torch.equal(loss(LOGITS, TARGETS.bool()), loss(LOGITS, TARGETS))


def test_targets_that_are_no_tensor_are_refused():
    with pytest.raises(TypeError, match=r"must be tensors of shape \(b, c\); got Tensor and list"):
        build_loss("bce", [3, 1], 5)(LOGITS, [[1, 0], [0, 1]])


@pytest.mark.parametrize("alpha", [0.1, 0.3])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_alpha_is_exact_in_float64_whatever_torchs_default_is(alpha, kind):
    p = torch.sigmoid(LOGITS)
    positive = -alpha * (1 - p) ** 2 * p.log()
    negative = -(1 - alpha) * p**2 * (1 - p).log()
    wanted = torch.where(TARGETS.bool(), positive, negative).mean()
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        found = build_loss("fl", [2, 1], 5, alpha=alpha)(LOGITS, TARGETS)
    finally:
        torch.set_default_dtype(before)
    # A few roundings of float64, 1e-16 each; 0.1 in float32 is off by 1e-8.
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=0)


def test_class_aware_sampling_has_no_cap_and_says_so():
    with pytest.raises(LongdocError, match=r"imbalance.max_repeats is for .*; got .*class_aware"):
        check(ImbalanceSettings(sampler="class_aware", max_repeats=2))


@pytest.mark.parametrize("sampler", ["oversampling", "ml_ros", "lp_ros"])
def test_a_cap_that_nothing_reaches_takes_no_memory(sampler):
    generator = np.random.default_rng(0)
    truth = generator.random((4000, 12)) < np.geomspace(0.3, 0.001, 12)
    draws = []
    for cap in (10**6, 10**5):
        given = ImbalanceSettings(sampler=sampler, max_repeats=cap)
        draw = work_out(given, truth, "multi-label", 0).draw
        draws.append([draw(epoch) for epoch in range(3)])
    for one, other in zip(*draws, strict=True):
        assert np.array_equal(one, other)
        assert len(one) == len(draws[0][0])


@pytest.mark.parametrize("name", ["bce", "db", "asl"])
def test_a_batch_of_no_documents_is_refused(name):
    with pytest.raises(ValueError, match="no documents"):
        build_loss(name, [3, 2], 6)(torch.zeros(0, 2), torch.zeros(0, 2))


def test_a_softmax_loss_refuses_documents_with_two_labels_and_learns_nothing_of_none():
    loss = build_loss("bce", [3, 2, 1], 6, kind="multi-class")
    logits = torch.tensor([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]], requires_grad=True)
    with pytest.raises(ValueError, match="one label; got one with 2"):
        loss(logits, torch.tensor([[1.0, 0, 0], [1, 1, 0]]))
    loss(logits, torch.tensor([[1.0, 0, 0], [0, 0, 0]])).backward()
    assert logits.grad[0].any()
    assert not logits.grad[1].any()


@pytest.mark.parametrize("change", ["half", "bfloat16", "float"])
def test_a_loss_keeps_its_digits_when_a_model_around_it_is_halved(change):
    loss = build_loss("weighted_bce", [1, 2, 50000], 200000, power=1, max_weight=1e6)
    logits, targets = torch.zeros(2, 3), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    wanted = loss(logits, targets)
    around = torch.nn.ModuleDict({"loss": loss, "head": torch.nn.Linear(2, 3)})
    getattr(around, change)()
    assert loss(logits, targets) == wanted
    assert around["head"].weight.dtype != torch.float64
    assert {buffer.device.type for buffer in loss.to("meta").buffers()} == {"meta"}


@pytest.mark.parametrize(
    ("name", "numbers"), [("asl", {"margin": 1e-46}), ("db", {"map_beta": 1e-46})]
)
def test_numbers_too_small_for_float32_are_refused(name, numbers):
    with pytest.raises(LongdocError, match="in 1e-6"):
        build_loss(name, [3, 2], 6, **numbers)


def test_the_names_of_papers_are_hinted_at():
    with pytest.raises(LongdocError, match="did you mean db_0fl"):
        build_loss("DB-0FL", [3, 2], 6)


def test_an_epoch_of_ml_ros_has_no_clone_of_a_document_with_frequent_labels_alone():
    generator = np.random.default_rng(0)
    for trial in range(20):
        truth = generator.random((60, 8)) < np.geomspace(0.6, 0.03, 8)
        ratios = truth.sum(axis=0).max() / truth.sum(axis=0).clip(1)
        rare = truth[:, ratios > ratios[truth.any(axis=0)].mean()].any(axis=1)
        draw = work_out(ImbalanceSettings(sampler="ml_ros"), truth, "multi-label", trial).draw
        for epoch in range(8):
            times = np.bincount(draw(epoch), minlength=len(truth))
            assert (times[~rare] <= 1).all()


def test_logits_and_targets_are_dense_and_real():
    loss = build_loss("db", [3, 1], 5)
    for logits, targets in (
        (LOGITS, TARGETS.to(torch.complex64)), (LOGITS.to(torch.complex64), TARGETS),
        (LOGITS, TARGETS.to_sparse()),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="logits and targets must be dense and real"):
            loss(logits, targets)
    with pytest.raises(ValueError, match="logits are on cpu, targets on meta: use one device"):
        loss(LOGITS, TARGETS.to("meta"))


def test_alpha_is_refused_where_labels_exclude_each_other():
    truth = np.eye(3, dtype=np.bool_)[[0, 1, 2, 0]]
    with pytest.raises(SettingsError, match=r"imbalance\.alpha weighs positive entries against"):
        work_out(ImbalanceSettings(loss="fl", alpha=0.3), truth, "multi-class", 0)
