"""Normalisation, products and dropout against what torch does."""

import weakref

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from longdoc.kernels import linear as products
from longdoc.kernels import residual, rms_norm
from longdoc.kernels.dropout import dropout
from longdoc.kernels.rms_norm import compiled, reference
from tests import tolerances
from tests.assertions import assert_close
from tests.kernels.against_torch import assert_same, drawn, gradients, needs_native

pytestmark = pytest.mark.usefixtures("library")


@needs_native
@pytest.mark.parametrize(("tokens", "d"), [(1, 1), (3, 16), (65, 37), (130, 192)])
def test_normalisation_equals_the_reference(tokens, d):
    x, weight = drawn(2, tokens, d), drawn(d, seed=1)
    found = gradients(lambda x, w: compiled.rms_norm(x, w, 1e-5), x, weight)
    wanted = gradients(lambda x, w: reference.rms_norm(x, w, 1e-5), x.double(), weight.double())
    assert_same(found, wanted, tolerances.SCAN_FLOAT32)


def test_normalisation_is_that_of_torch_and_gives_the_type_asked_for():
    x, weight = drawn(2, 5, 24), drawn(24, seed=1)
    assert_close(rms_norm(x, weight, 1e-5), F.rms_norm(x, (24,), weight, 1e-5), 1e-6)
    half = rms_norm(x, weight, 1e-5, torch.bfloat16)
    assert half.dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"weight must have shape \(24,\)"):
        rms_norm(x, drawn(23), 1e-5)


@pytest.mark.parametrize("tokens", [3, 200])
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_and_its_gradients_are_those_of_torch(tokens, biased):
    x, weight, bias = drawn(2, tokens, 40), drawn(24, 40, seed=1), drawn(24, seed=2)
    given = (x, weight, bias if biased else None)
    wanted = gradients(F.linear, *(None if t is None else t.double() for t in given))
    assert_same(gradients(products.linear, *given), wanted, tolerances.SCAN_FLOAT32)


@pytest.mark.parametrize("shape", [(2, 200), (400,)])
def test_a_product_may_be_changed_in_place(shape):
    x, weight = drawn(*shape, 40), drawn(24, 40, seed=1)

    def changed(function):
        def run(x, weight):
            y = function(x, weight, None)
            y += x[..., :24]
            return y

        return run

    found = gradients(changed(products.linear), x, weight)
    wanted = gradients(changed(F.linear), x.double(), weight.double())
    assert_same(found, wanted, tolerances.SCAN_FLOAT32)


def test_a_product_under_autocast_has_its_type():
    x, weight = drawn(200, 40), drawn(24, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(x, weight).dtype == torch.bfloat16


@pytest.mark.parametrize("tokens", [3, 200])
@pytest.mark.parametrize("shape", [(2, 4), (8,)])
def test_columns_of_another_tensor_get_their_bias_within_the_product(tokens, shape):
    x, weight, bias = drawn(*shape, tokens, 60), drawn(24, 40, seed=1), drawn(24, seed=2)

    def columns(f):
        return lambda x, weight, bias: f(x[..., :40], weight, bias)

    wanted = gradients(columns(F.linear), x.double(), weight.double(), bias.double())
    found = gradients(columns(products.linear), x, weight, bias)
    assert_same(found, wanted, tolerances.SCAN_FLOAT32)
    halves = (t.bfloat16() for t in (x, weight, bias))
    with torch.profiler.profile() as profile:
        half = columns(products.linear)(*halves)
    assert half.shape == (*shape, tokens, 24)
    assert_close(half.double(), wanted[0], 10 * tolerances.BFLOAT16)
    # A sum of its own would go through all of the output once more.
    assert not [event.key for event in profile.key_averages() if event.key == "aten::add_"]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_share_it_should_and_the_mean(kind):
    x = torch.ones(300, 1001, dtype=kind)
    found = dropout(x, 0.1, 5)
    assert (found == 0).float().mean().item() == pytest.approx(0.1, abs=0.003)
    assert found.float().mean().item() == pytest.approx(1.0, abs=0.004)
    assert torch.equal(found, dropout(x, 0.1, 5))
    both = ((found == 0) & (dropout(x, 0.1, 6) == 0)).float().mean().item()
    assert both == pytest.approx(0.01, abs=0.002)
    rows = (found == 0).float()
    assert (rows[:, 1:] * rows[:, :-1]).mean().item() == pytest.approx(0.01, abs=0.002)
    assert (rows[1:] * rows[:-1]).mean().item() == pytest.approx(0.01, abs=0.002)


def test_a_bias_may_have_any_strides():
    x, weight = drawn(100, 40), drawn(24, 40, seed=1)
    for bias in (drawn(24, 3)[:, 1], drawn(1).expand(24)):
        assert_close(products.linear(x, weight, bias), F.linear(x, weight, bias), 1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_is_added_where_it_is_asked_for(kind):
    x, to = drawn(70, 33).to(kind), drawn(70, 33, seed=1).to(kind)
    wanted = to.float() + dropout(x, 0.3, 5).float()
    found = dropout(x, 0.3, 5, to=to)
    assert found is to
    assert_close(found.float(), wanted, tolerances.BFLOAT16)


@needs_native
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("keep", [True, False])
def test_a_layer_between_normalisation_and_sum_has_torchs_gradients(kind, keep):
    x, weight, inner = drawn(2, 70, 24), drawn(24, seed=1), drawn(24, 24, seed=2)

    def fused(x, weight, inner):
        return residual.around(lambda h: h @ inner.to(h.dtype), x, weight, 1e-5, kind, keep)

    def plain(x, weight, inner):
        return x + reference.rms_norm(x, weight, 1e-5) @ inner

    found = gradients(fused, x, weight, inner)
    wanted = gradients(plain, x.double(), weight.double(), inner.double())
    if kind == torch.float32:
        assert_same(found, wanted, tolerances.SCAN_FLOAT32)
    else:
        assert_close(found[0].double(), wanted[0], 10 * tolerances.BFLOAT16)


@needs_native
def test_the_normalised_input_is_not_kept_for_the_way_back():
    x, weight, inner = drawn(2, 70, 24), drawn(24, seed=1), drawn(24, 24, seed=2).requires_grad_()
    seen = []

    def layer(h):
        seen.append(weakref.ref(h))
        return h @ inner

    y = residual.around(layer, x, weight, 1e-5, torch.float32)
    assert seen[0]() is None
    y.sum().backward()
    wanted = reference.rms_norm(x, weight, 1e-5).reshape(-1, 24).sum(0)
    assert_close(inner.grad, wanted[:, None].expand(24, 24), 1e-4)


@needs_native
@pytest.mark.parametrize("recorded", [True, False])
def test_a_layer_that_changes_its_input_in_place_has_right_gradients(recorded):
    x, weight, inner = drawn(2, 70, 24), drawn(24, seed=1), drawn(24, 24, seed=2)

    def layer(h, inner):
        with torch.set_grad_enabled(recorded):
            h.mul_(3)
        return h @ inner

    def fused(keep):
        return lambda inner: residual.around(
            lambda h: layer(h, inner), x, weight, 1e-5, torch.float32, keep
        )

    assert_same(gradients(fused(False), inner), gradients(fused(True), inner), 1e-6)


@needs_native
def test_a_weight_changed_before_the_way_back_is_refused():
    x, weight = drawn(2, 70, 24).requires_grad_(), drawn(24, seed=1)
    inner = drawn(24, 24, seed=2).requires_grad_()
    y = residual.around(lambda h: h @ inner, x, weight, 1e-5, torch.float32)
    with torch.no_grad():
        inner.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@needs_native
def test_a_layer_that_gives_another_shape_is_added_as_torch_adds():
    x, weight = drawn(2, 70, 24), drawn(24, seed=1)
    y = residual.around(lambda h: h[:, :1], x, weight, 1e-5, torch.float32)
    assert_close(y, x + reference.rms_norm(x, weight, 1e-5)[:, :1], 1e-5)


@needs_native
def test_what_the_kernels_would_read_as_something_else_is_refused():
    x, weight = drawn(2, 65, 40), drawn(40, seed=1)
    for wrong in ((x.bfloat16(), weight), (x, weight[:-1]), (x.double(), weight)):
        with pytest.raises(ValueError, match=r"weight \(d,\), both float32; got"):
            residual.around(lambda h: h, *wrong, 1e-5, torch.float32)
    for wrong in ((x, x[:1]), (x, x.double()), (x.bfloat16(), x)):
        with pytest.raises(ValueError, match="x must be float32, and y of its shape"):
            residual.add(*wrong)


def test_dropout_is_not_added_to_what_does_not_fit():
    with pytest.raises(ValueError, match=r"to must be contiguous, of shape \(4, 6\)"):
        dropout(torch.ones(4, 6), 0.1, 0, to=torch.ones(6, 4).t())
