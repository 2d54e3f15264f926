"""GELU, and the sum that is dropped in part and normalised, against what torch does."""

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from longdoc.kernels import add_norm, gelu, native_library
from longdoc.kernels.dropout import drop
from tests import tolerances
from tests.assertions import assert_close
from tests.kernels.against_torch import assert_same, drawn, gradients, needs_native

KINDS = ["none", "tanh"]
SHAPES = [(1, 1), (3, 16), (65, 37), (7, 130), (2, 5, 384)]


@pytest.mark.parametrize("approximate", KINDS)
@pytest.mark.parametrize("count", [1, 15, 16, 17, 70_001])
def test_gelu_and_its_gradient_are_torchs(approximate, count):
    x = 4 * drawn(count)
    wanted = gradients(lambda x: F.gelu(x, approximate=approximate), x.double())
    found = gradients(lambda x: gelu(x, approximate), x)
    assert_same(found, wanted, tolerances.MODEL_FLOAT32)
    half = gradients(lambda x: gelu(x, approximate), x.bfloat16())
    assert half[0].dtype == half[1].dtype == torch.bfloat16
    wanted = gradients(lambda x: F.gelu(x, approximate=approximate), x.bfloat16().double())
    assert_same(half, wanted, tolerances.BFLOAT16)


@needs_native
def test_small_shares_are_as_exact_as_large_ones():
    x = torch.linspace(-9, 9, 2001)
    share = gelu(x) / x
    wanted = torch.special.erfc(-x.double() / math.sqrt(2)) / 2
    assert ((share.double() / wanted - 1).abs()[x != 0]).max() < tolerances.MODEL_FLOAT32


@pytest.mark.parametrize("approximate", KINDS)
def test_gelu_far_out_is_the_number_or_zero_and_what_is_none_stays_none(approximate):
    x = torch.tensor([-1e20, -100.0, -0.0, 0.0, 1e-30, 100.0, 1e20, math.nan]).requires_grad_()
    found = gelu(x, approximate)
    wanted = torch.tensor([0.0, 0.0, 0.0, 0.0, 5e-31, 100.0, 1e20, math.nan])
    assert_close(found, wanted, 1e-6)
    (slopes,) = torch.autograd.grad(found.sum(), x)
    assert_close(slopes[1:6], torch.tensor([0.0, 0.5, 0.5, 0.5, 1.0]), 1e-6)
    assert slopes[7].isnan()


def test_gelu_takes_any_strides_other_types_and_says_what_it_knows():
    x = drawn(30, 40).t()
    assert_close(gelu(x), F.gelu(x), 1e-6)
    assert_close(gelu(x.double()), F.gelu(x.double()), tolerances.FLOAT64)
    assert gelu(torch.empty(0, 3)).shape == (0, 3)
    with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh'; got 'fast'"):
        gelu(x, "fast")


def normed(x, residual, weight, bias):
    return F.layer_norm(x + residual, weight.shape, weight, bias, 1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_normalised_sum_and_its_gradients_are_torchs(shape):
    d = shape[-1]
    given = (drawn(*shape), 3 + 2 * drawn(*shape, seed=1), drawn(d, seed=2), drawn(d, seed=3))
    wanted = gradients(normed, *(part.double() for part in given))
    found = gradients(lambda *parts: add_norm(*parts, 1e-5), *given)
    assert_same(found, wanted, tolerances.SCAN_FLOAT32)


@needs_native
def test_what_a_layer_made_may_be_bfloat16():
    given = (drawn(3, 70, 40), drawn(3, 70, 40, seed=1), drawn(40, seed=2), drawn(40, seed=3))
    halves = (given[0].bfloat16(), *given[1:])
    wanted = gradients(normed, *(part.double() for part in halves))
    found = gradients(lambda *parts: add_norm(*parts, 1e-5), *halves)
    assert [part.dtype for part in found] == [torch.float32, torch.bfloat16, *[torch.float32] * 3]
    assert_close(found[1].double(), wanted[1], tolerances.BFLOAT16)
    assert_same([found[0], *found[2:]], [wanted[0], *wanted[2:]], tolerances.SCAN_FLOAT32)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(70, 37), (9, 16_384)])
def test_it_drops_what_dropout_drops_and_of_the_gradient_the_same(kind, shape):
    d = shape[-1]
    x, residual = drawn(*shape).to(kind), drawn(*shape, seed=1)
    weight, bias = 1 + 0.1 * drawn(d, seed=2), drawn(d, seed=3)

    def ours(*parts):
        torch.manual_seed(5)
        return add_norm(*parts, 1e-5, 0.3)

    def theirs(x, residual, weight, bias):
        torch.manual_seed(5)
        return normed(drop(x, 0.3), residual, weight, bias)

    found, wanted = (gradients(way, x, residual, weight, bias) for way in (ours, theirs))
    assert torch.equal(found[1] == 0, wanted[1] == 0)
    assert (found[1] == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    tolerance = tolerances.SCAN_FLOAT32 if kind == torch.float32 else tolerances.BFLOAT16
    assert_same(found, wanted, tolerance)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_types_that_are_not_served_go_torchs_way(rate):
    given = [drawn(5, 8), drawn(5, 8, seed=1), drawn(8, seed=2), drawn(8, seed=3)]
    doubles = [part.double() for part in given]
    torch.manual_seed(0)
    found = add_norm(*doubles, 1e-5, rate)
    torch.manual_seed(0)
    assert_close(found, normed(F.dropout(doubles[0], rate), *doubles[1:]), tolerances.FLOAT64)
    wide = add_norm(given[0], given[1][:1], *given[2:], 1e-5)
    assert_close(wide, normed(given[0], given[1][:1], *given[2:]), tolerances.MODEL_FLOAT32)
    assert add_norm(*(part[:0] for part in given[:2]), *given[2:], 1e-5, rate).shape == (0, 8)


@needs_native
def test_frozen_weights_get_no_gradient_and_others_do_without():
    given = [drawn(5, 8), drawn(5, 8, seed=1), drawn(8, seed=2), drawn(8, seed=3)]
    leaf = given[0].clone().requires_grad_()
    add_norm(leaf, *given[1:], 1e-5).pow(2).sum().backward()
    other = given[0].clone().requires_grad_()
    normed(other, *given[1:]).pow(2).sum().backward()
    assert_close(leaf.grad, other.grad, 1e-5)


@needs_native
def test_every_level_and_any_number_of_threads_give_the_same(monkeypatch):
    given = [drawn(300, 37), drawn(300, 37, seed=1), drawn(37, seed=2), drawn(37, seed=3)]

    def both(x, residual, weight, bias):
        torch.manual_seed(0)
        return gelu(add_norm(x, residual, weight, bias, 1e-5, 0.1), "tanh") + gelu(x)

    wanted = gradients(both, *given)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = gradients(both, *given)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(alone, wanted, strict=True))
    for level in range(native_library.level() + 1):
        monkeypatch.setattr(native_library, "level", lambda level=level: level)
        assert_same(gradients(both, *given), wanted, tolerances.SCAN_FLOAT32)
