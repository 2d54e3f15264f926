"""Linear layers with a low-rank update against the sums they stand for."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from longdoc.kernels import low_rank, native_library
from longdoc.kernels.dropout import dropout
from tests import tolerances
from tests.assertions import assert_close
from tests.kernels.against_torch import assert_same, drawn, gradients, needs_native

pytestmark = pytest.mark.usefixtures("library")


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("tokens", [30, 600])  # added; merged
@pytest.mark.parametrize("outputs", [24, 56])  # fewer than inputs; more
def test_a_low_rank_update_is_the_sum_it_stands_for(biased, tokens, outputs):
    x, weight, bias = drawn(2, tokens, 40), drawn(outputs, 40, seed=1), drawn(outputs, seed=2)
    a, b = drawn(4, 40, seed=3), drawn(outputs, 4, seed=4)

    def plain(x, weight, bias, a, b):
        return F.linear(x, weight, bias) + 2.0 * F.linear(F.linear(x, a), b)

    given = (x, weight, bias if biased else None, a, b)
    wanted = gradients(plain, *(None if t is None else t.double() for t in given))
    found = gradients(lambda *t: low_rank.low_rank_linear(*t, 2.0), *given)
    assert_same(found, wanted, tolerances.SCAN_FLOAT32)


@pytest.mark.parametrize("outputs", [24, 56])
def test_dropout_of_a_low_rank_update_is_the_same_on_the_way_back(outputs):
    x, weight = drawn(2, 100, 40), drawn(outputs, 40, seed=1)
    a, b = drawn(4, 40, seed=3), drawn(outputs, 4, seed=4)

    def fused(x, a, b):
        torch.manual_seed(7)
        return low_rank.low_rank_linear(x, weight, None, a, b, 2.0, 0.25)

    torch.manual_seed(7)
    seed = int(torch.randint(2**62, ()).item())
    mask = dropout(torch.ones_like(x), 0.25, seed)

    def plain(x, a, b):
        return F.linear(x, weight) + 2.0 * F.linear(F.linear(x * mask, a), b)

    assert_same(gradients(fused, x, a, b), gradients(plain, x, a, b), tolerances.SCAN_FLOAT32)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 8, 21, 64])
def test_a_merged_weight_is_the_sum_it_stands_for(kind, rows):
    weight, a, b = drawn(rows, 37), drawn(5, 37, seed=1), drawn(rows, 5, seed=2)
    wanted = weight.double() + 0.5 * (b.double() @ a.double())
    found = low_rank.merged(weight, a, b, 0.5, kind)
    assert found.dtype == kind
    tolerance = tolerances.SCAN_FLOAT32 if kind == torch.float32 else tolerances.BFLOAT16
    assert_close(found.double(), wanted, tolerance)


def test_a_backward_pass_inside_autocast_of_a_forward_pass_outside_runs():
    x, weight = drawn(2, 200, 40), drawn(24, 40, seed=1)
    a, b = drawn(4, 40, seed=3).requires_grad_(), drawn(24, 4, seed=4).requires_grad_()
    x.requires_grad_()
    y = low_rank.low_rank_linear(x, weight, None, a, b, 2.0, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        y.sum().backward()
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 8, 21, 64])
def test_a_merged_weight_is_the_same_by_columns(kind, rows):
    weight, a, b = drawn(rows, 37), drawn(5, 37, seed=1), drawn(rows, 5, seed=2)
    found = low_rank.merged(weight, a, b, 0.5, kind, by_columns=True)
    assert torch.equal(found, low_rank.merged(weight, a, b, 0.5, kind))


def wanted_factors(x, dy, a, b):
    x, dy, a, b = (part.double() for part in (x, dy, a, b))
    down = dy @ b
    return 0.5 * down.t() @ x, 0.5 * dy.t() @ (x @ a.t()), down


@pytest.mark.parametrize("rank", [1, 4, 16, 21])
@pytest.mark.parametrize(
    ("tokens", "inputs", "outputs"),
    [(1, 1, 1), (31, 5, 70), (128, 1, 1), (129, 64, 16), (160, 80, 48), (1025, 37, 130)],
)
def test_gradients_of_the_factors_are_the_sums_they_stand_for(tokens, inputs, outputs, rank):
    x, dy = drawn(tokens, inputs), drawn(tokens, outputs, seed=1)
    a, b = drawn(rank, inputs, seed=2), drawn(outputs, rank, seed=3)
    found = low_rank.factor_gradients(x, dy, a, b, 0.5)
    assert_same(found, wanted_factors(x, dy, a, b), tolerances.SCAN_FLOAT32)


def test_gradients_of_the_factors_in_bfloat16_are_those_of_torchs_products():
    x, dy = drawn(300, 64).bfloat16(), drawn(300, 48, seed=1).bfloat16()
    a, b = drawn(8, 64, seed=2), drawn(48, 8, seed=3)
    found = low_rank.factor_gradients(x, dy, a, b, 0.5)
    assert_same(found, wanted_factors(x, dy, a, b), tolerances.BFLOAT16)


def test_gradients_of_the_factors_do_not_depend_on_strides_or_threads():
    x, dy = drawn(300, 40), drawn(300, 24, seed=1)
    a, b = drawn(4, 40, seed=2), drawn(24, 4, seed=3)
    wanted = low_rank.factor_gradients(x, dy, a, b, 0.5)
    wide = torch.full((300, 100), torch.nan)
    wide[:, 7:47], wide[:, 50:74] = x, dy
    strided = (wide[:, 7:47], wide[:, 50:74], a.t().contiguous().t(), b.t().contiguous().t())
    across = (x.t().contiguous().t(), dy.t().contiguous().t(), a, b)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for given in (strided, across):
            found = low_rank.factor_gradients(*given, 0.5)
            assert_same(found, wanted, tolerances.SCAN_FLOAT32)
            if native_library.available():
                assert all(torch.equal(f, w) for f, w in zip(found, wanted, strict=True))
    finally:
        torch.set_num_threads(threads)


@needs_native
def test_gradients_of_the_factors_are_the_same_at_every_level(monkeypatch):
    x, dy = drawn(130, 37), drawn(130, 70, seed=1)
    a, b = drawn(6, 37, seed=2), drawn(70, 6, seed=3)
    for level in range(native_library.level() + 1):
        monkeypatch.setattr(native_library, "level", lambda level=level: level)
        found = low_rank.factor_gradients(x, dy, a, b, 0.5)
        assert_same(found, wanted_factors(x, dy, a, b), tolerances.SCAN_FLOAT32)


@needs_native
def test_what_is_no_number_stays_where_it_belongs():
    x, dy = drawn(170, 40), drawn(170, 24, seed=1)
    a, b = drawn(4, 40, seed=2), drawn(24, 4, seed=3)
    x[3, 5] = torch.nan
    da, db, down = low_rank.factor_gradients(x, dy, a, b, 1.0)
    assert (~da.isfinite()).nonzero()[:, 1].unique().tolist() == [5]
    assert db.isnan().all()  # every output met the token whose narrowed input is no number
    assert down.isfinite().all()
    dy[60, 7] = torch.inf
    down = low_rank.factor_gradients(x, dy, a, b, 1.0)[2]
    assert (~down.isfinite()).nonzero()[:, 0].unique().tolist() == [60]


def test_no_token_gives_no_gradient():
    da, db, down = low_rank.factor_gradients(
        drawn(0, 40), drawn(0, 24), drawn(4, 40), drawn(24, 4), 1.0
    )
    assert not da.any()
    assert not db.any()
    assert down.shape == (0, 4)


@pytest.mark.parametrize("shape", [(2, 5, 40), (2, 100, 40), (200, 40)])
@pytest.mark.parametrize("outputs", [24, 56])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_what_it_gives_may_be_changed_in_place(shape, outputs, rate):
    given = (drawn(*shape), drawn(outputs, 40, seed=1), drawn(outputs, seed=2),
             drawn(4, 40, seed=3), drawn(outputs, 4, seed=4))  # fmt: skip

    def changed(in_place):
        def run(*parts):
            torch.manual_seed(0)
            y = low_rank.low_rank_linear(*parts, 2.0, rate)
            return y.add_(parts[0][..., :1]) if in_place else y + parts[0][..., :1]

        return run

    found, wanted = gradients(changed(True), *given), gradients(changed(False), *given)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
