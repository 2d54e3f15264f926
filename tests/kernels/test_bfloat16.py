"""Products of bfloat16 where torch is slow with it, against the same sums in double precision."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from longdoc.kernels import bfloat16, low_rank, native_library
from longdoc.kernels import linear as products
from longdoc.kernels.bfloat16 import blocked, choose, compiled
from longdoc.pretraining import muon
from longdoc.pretraining.muon import MuonWithAdamW
from longdoc.pretraining.objective import linear_cross_entropy
from tests import tolerances
from tests.assertions import assert_close
from tests.kernels.against_torch import assert_same, drawn, gradients, needs_native

VARIANTS = [blocked, pytest.param(compiled, marks=needs_native)]
# (m, k, n): single ones, around tiles and blocks of the kernel, primes.
SHAPES = [
    *((1, 1, 1), (5, 3, 7), (6, 16, 16), (7, 17, 33), (72, 192, 256), (73, 193, 257)),
    *((131, 389, 31), (1025, 5, 12), (2, 700, 530)),
]


def half(*shape, seed=0):
    return drawn(*shape, seed=seed).bfloat16()


def rounded(exact):
    """Round once; what bfloat16's sums must be but for where float32's rounding tips it over."""
    return exact.to(torch.bfloat16).double()


def is_the_product(found, left, right, bias=0.0):
    assert found.dtype == torch.bfloat16
    exact = left.double() @ right.double() + bias
    assert_close(found.double(), exact, tolerances.BFLOAT16)
    other = (found.double() != rounded(exact)).double().mean()
    assert other <= tolerances.ROUNDED_OTHERWISE


@pytest.fixture(params=[pytest.param(True, marks=needs_native), False], ids=["compiled", "blocked"])
def slow(request, monkeypatch):
    """Let products go the way of processors on which torch is slow with bfloat16; lists those made."""
    for module in (bfloat16, choose):
        monkeypatch.setattr(module, "slow", lambda: True)
    if not request.param:
        monkeypatch.setattr(native_library, "available", lambda: False)
    made = []
    for variant in (compiled, blocked):
        for name in ("multiply", "add", "gather"):
            kept = getattr(variant, name)

            def noted(*given, kept=kept, name=name):
                made.append(name)
                return kept(*given)

            monkeypatch.setattr(variant, name, noted)
    return made


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_product_is_rounded_once(variant, shape):
    m, k, n = shape
    left, right, bias = half(m, k), half(k, n, seed=1), half(n, seed=2)
    is_the_product(variant.multiply(left, right), left, right)
    is_the_product(variant.multiply(left, right, bias), left, right, bias.double())


@pytest.mark.parametrize("variant", VARIANTS)
def test_strides_do_not_matter(variant):
    left, right = half(75, 40), half(40, 90, seed=1)
    wanted = variant.multiply(left, right)
    wide = torch.full((75, 99), torch.nan, dtype=torch.bfloat16)
    wide[:, 9:49] = left
    for some in (wide[:, 9:49], left.t().contiguous().t()):
        assert torch.equal(variant.multiply(some, right), wanted)
    spread = torch.full((40, 181), torch.nan, dtype=torch.bfloat16)
    spread[:, 1::2] = right
    for some in (right.t().contiguous().t(), spread[:, 1::2]):
        assert torch.equal(variant.multiply(left, some), wanted)
    one = half(1, 40).expand(75, 40)
    assert torch.equal(variant.multiply(one, right), variant.multiply(one.contiguous(), right))


@pytest.mark.parametrize("tokens", [1, 100, 1025, 2049])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sum_over_tokens_is_float32(variant, tokens):
    left, right = half(tokens, 37), half(tokens, 70, seed=1)
    found = variant.gather(left, right)
    assert found.dtype == torch.float32
    assert_close(found.double(), left.double().t() @ right.double(), tolerances.SCAN_FLOAT32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_product_is_added_in_place(variant):
    to, left, right = half(75, 50), half(75, 8, seed=1), half(8, 50, seed=2)
    exact = to.double() - 0.5 * left.double() @ right.double()
    variant.add(to, left, right, -0.5)
    assert (to.double() != rounded(exact)).double().mean() <= tolerances.ROUNDED_OTHERWISE


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_to_multiply_gives_nothing(variant):
    assert variant.multiply(half(0, 5), half(5, 7)).shape == (0, 7)
    assert variant.multiply(half(3, 5), half(5, 0)).shape == (3, 0)
    assert not variant.multiply(half(3, 0), half(0, 7)).any()
    assert not variant.gather(half(0, 5), half(0, 7)).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_no_number_stays_where_it_belongs(variant):
    left, right = half(75, 40), half(40, 90, seed=1)
    left[3, 5], right[7, 80] = torch.nan, torch.inf
    found = variant.multiply(left, right)
    strange = torch.zeros(75, 90, dtype=torch.bool)
    strange[3], strange[:, 80] = True, True
    assert torch.equal(~found.isfinite(), strange)


@needs_native
@pytest.mark.parametrize("rows", [3, 75, 700])
def test_results_do_not_depend_on_threads_or_on_what_else_is_multiplied(rows):
    left, right = half(rows, 300), half(300, 600, seed=1)
    wanted = compiled.multiply(left, right)
    assert torch.equal(compiled.multiply(left[1:], right[:, 40:]), wanted[1:, 40:])
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(compiled.multiply(left, right), wanted)
    finally:
        torch.set_num_threads(threads)


@needs_native
def test_every_level_gives_the_product(monkeypatch):
    left, right = half(75, 40), half(40, 90, seed=1)
    for level in range(native_library.level() + 1):
        monkeypatch.setattr(native_library, "level", lambda level=level: level)
        is_the_product(compiled.multiply(left, right), left, right)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sums_are_float32_whatever_torchs_default_is(variant):
    left, right = half(75, 40), half(75, 90, seed=1)
    wanted, product = variant.gather(left, right), variant.multiply(left.t(), right)
    for kind in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(kind)
        try:
            assert torch.equal(variant.gather(left, right), wanted)
            assert torch.equal(variant.multiply(left.t(), right), product)
        finally:
            torch.set_default_dtype(torch.float32)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"shapes \(m, k\) and \(k, n\).*\(9, 4\) and \(5, 7\)"):
        bfloat16.multiply(half(9, 4), half(5, 7))
    with pytest.raises(ValueError, match=r"bias must have shape \(7,\); got \(6,\)"):
        bfloat16.multiply(half(9, 4), half(4, 7), half(6))
    with pytest.raises(ValueError, match=r"shapes \(m, k\)"):
        bfloat16.gather(half(9, 4), half(8, 7))
    with pytest.raises(ValueError, match=r"to must be contiguous, of shape \(9, 7\); got \(7, 9\)"):
        bfloat16.add(half(7, 9), half(9, 4), half(4, 7), 1.0)
    with pytest.raises(ValueError, match="to must be contiguous"):
        bfloat16.add(half(7, 9).t(), half(9, 4), half(4, 7), 1.0)


@pytest.mark.parametrize("rows", [1, bfloat16.FEWEST - 1, bfloat16.FEWEST])
def test_few_rows_are_torchs(slow, rows):
    left, right, bias = half(rows, 40), half(40, 24, seed=1), half(24, seed=2)
    is_the_product(bfloat16.multiply(left, right), left, right)
    found = bfloat16.multiply(left, right, bias)
    assert_close(
        found.double(), left.double() @ right.double() + bias.double(), tolerances.BFLOAT16
    )
    assert slow == ([] if rows < bfloat16.FEWEST else ["multiply"] * 2)


@pytest.mark.parametrize("tokens", [3, 40, 200])  # torch's own forward; ours
def test_a_layer_under_autocast_has_torchs_gradients_and_types(slow, tokens):
    x, weight, bias = drawn(2, tokens, 40), drawn(24, 40, seed=1), drawn(24, seed=2)

    def layer(x, weight, bias):
        with torch.autocast("cpu", torch.bfloat16):
            return products.linear(x, weight, bias)

    found = gradients(layer, x, weight, bias)
    wanted = gradients(F.linear, *(part.double() for part in (x, weight, bias)))
    assert [part.dtype for part in found] == [torch.bfloat16, *[torch.float32] * 3]
    assert_same(found, wanted, tolerances.BFLOAT16)
    assert slow == ([] if tokens == 3 else ["multiply", "multiply", "gather"])


def test_a_layer_whose_weights_are_bfloat16_gives_bfloat16(slow):
    x, weight, bias = half(2, 100, 40), half(24, 40, seed=1), half(24, seed=2)
    found = gradients(products.linear, x, weight, bias)
    assert {part.dtype for part in found} == {torch.bfloat16}
    wanted = gradients(F.linear, *(part.double() for part in (x, weight, bias)))
    assert_same(found, wanted, tolerances.BFLOAT16)
    assert slow == ["multiply", "multiply", "gather"]


def test_types_that_do_not_fit_are_refused_as_by_torch(slow):
    with pytest.raises(RuntimeError, match="dtype"):
        products.linear(half(100, 40), drawn(24, 40))
    with torch.autocast("cpu", torch.bfloat16):
        wide = products.linear(drawn(100, 40).double(), drawn(24, 40).double())
    assert wide.dtype == torch.float64


@pytest.mark.parametrize("rate", [0.0, 0.25])
@pytest.mark.parametrize("outputs", [24, 56])
def test_lora_under_autocast_has_the_gradients_it_has_elsewhere(slow, rate, outputs):
    x, weight, bias = drawn(2, 200, 40), drawn(outputs, 40, seed=1), drawn(outputs, seed=2)
    a, b = drawn(4, 40, seed=3), drawn(outputs, 4, seed=4)

    def fused(*parts):
        torch.manual_seed(7)
        return low_rank.low_rank_linear(*parts, 2.0, rate)

    def narrow(*parts):
        with torch.autocast("cpu", torch.bfloat16):
            return fused(*parts)

    found, wanted = (gradients(way, x, weight, bias, a, b) for way in (narrow, fused))
    assert found[0].dtype == torch.bfloat16
    assert_same(found, wanted, 2 * tolerances.BFLOAT16)
    assert slow.count("multiply") >= 2
    assert "gather" in slow
    assert ("add" in slow) == (rate > 0 and outputs < 40)


@pytest.mark.parametrize("tokens", [100, 300])  # products; the kernel, if it is built
def test_gradients_of_the_factors_are_sums_in_float32(slow, tokens):
    x, dy = half(tokens, 64), half(tokens, 48, seed=1)
    a, b = drawn(8, 64, seed=2).bfloat16().float(), drawn(48, 8, seed=3).bfloat16().float()
    da, db, down = low_rank.factor_gradients(x, dy, a, b, 0.5)
    assert da.dtype == db.dtype == torch.float32
    in_one = native_library.available() and tokens == 300
    assert slow == ([] if in_one else ["multiply", "multiply", "gather", "gather"])
    assert_close(down.double(), dy.double() @ b.double(), tolerances.BFLOAT16)
    # What is multiplied last is bfloat16 on the way of the products.
    low, down = x.double() @ a.double().t(), dy.double() @ b.double()
    low, down = (low, down) if in_one else (rounded(low), rounded(down))
    within = tolerances.SCAN_FLOAT32 if in_one else tolerances.BFLOAT16
    assert_close(da.double(), 0.5 * down.t() @ x.double(), within)
    assert_close(db.double(), 0.5 * dy.double().t() @ low, within)


def test_the_loss_of_a_language_model_is_what_it_is_elsewhere(slow):
    hidden, weight = drawn(300, 24), drawn(70, 24, seed=1)
    targets = torch.arange(300) % 70

    def loss(hidden, weight):
        # Of all tokens, so that gradients are not small beside the tolerance.
        return len(hidden) * linear_cross_entropy(hidden, weight, targets)[None]

    def narrow(hidden, weight):
        with torch.autocast("cpu", torch.bfloat16):
            return loss(hidden, weight)

    found, wanted = (gradients(way, hidden, weight) for way in (narrow, loss))
    assert_same(found, wanted, tolerances.BFLOAT16)
    assert slow == ["multiply", "multiply", "gather"] * 2


def test_products_of_other_code_go_our_way_while_it_is_asked_for(slow):
    left, right, to = half(30, 40), half(40, 24, seed=1), half(30, 24, seed=2)
    with bfloat16.FastProducts():
        found, added = left @ right, torch.addmm(to, left, right, beta=2.0, alpha=-0.5)
        biased = torch.addmm(to[0], left, right)
        wide = left.float() @ right.float()
    is_the_product(found, left, right)
    exact = 2.0 * to.double() - 0.5 * left.double() @ right.double()
    assert_close(added.double(), exact, tolerances.BFLOAT16)
    exact = to[0].double() + left.double() @ right.double()
    assert_close(biased.double(), exact, tolerances.BFLOAT16)
    assert wide.dtype == torch.float32
    assert slow == ["multiply", "add", "add"]
    assert torch.equal(to, half(30, 24, seed=2))


def test_muon_takes_the_steps_it_takes_elsewhere(slow, monkeypatch):
    monkeypatch.setattr(muon, "slow", lambda: True)

    def trained():
        torch.manual_seed(0)
        model = torch.nn.Linear(40, 24)
        start = model.weight.detach().clone()
        rates = {"matrix_rate": 0.02, "rate": 1e-3, "weight_decay": 0.1, "betas": (0.9, 0.95)}
        optimizer = MuonWithAdamW(model, **rates, decays=[])
        model.weight.grad, model.bias.grad = drawn(24, 40), drawn(24)
        optimizer.step()
        return model.weight.detach() - start

    found = trained()
    assert slow.count("multiply") == 5
    assert slow.count("add") == 10
    monkeypatch.setattr(muon, "slow", lambda: False)
    wanted = trained()
    # Fifteen products in a row, each rounded to bfloat16; a step is small, so its largest part is one.
    largest = wanted.abs().max()
    assert_close(found / largest, wanted / largest, 5 * tolerances.BFLOAT16)
