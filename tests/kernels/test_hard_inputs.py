"""Kernels where few look: groups that differ, what torch records, huge numbers, wrong types."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from longdoc.kernels import attention, causal_conv1d, low_rank, native_library, selective_scan
from longdoc.kernels.causal_conv1d import reference as conv_reference
from longdoc.kernels.selective_scan import compiled, reference
from tests import tolerances
from tests.assertions import assert_close

pytestmark = pytest.mark.skipif(
    native_library.load() is None, reason="the compiled kernels were not built on this machine"
)


def inputs(groups=1, length=37, d=8, n=4, groups_of_c=None):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    parts = [(2, n, length) if g is None else (2, g, n, length) for g in (groups, groups_of_c)]
    if groups_of_c is None:
        parts[1] = parts[0]
    return (
        draw(2, d, length), draw(2, d, length), -draw(d, n).exp(), draw(*parts[0]), draw(*parts[1]),
    )  # fmt: skip


def scan(*parts):
    return selective_scan(*parts, delta_softplus=True)


def slow_scan(*parts):
    return reference.selective_scan(*parts, delta_softplus=True)


def gradients(function, parts):
    leaves = [part.clone().requires_grad_() for part in parts]
    y = function(*leaves)
    y.cos().sum().backward()
    return [y.detach(), *(leaf.grad for leaf in leaves)]


def assert_all_close(found, wanted, tolerance):
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert_close(one, other, tolerance, f"number {place}")


@pytest.mark.parametrize(
    ("of_b", "of_c"), [(2, 1), (1, 2), (4, 2), (2, 4), (12, 1), (3, 4), (None, 4), (4, None)]
)
def test_b_and_c_may_have_different_groups(of_b, of_c):
    given = list(inputs(of_b or 1, d=12, groups_of_c=of_c or 1))
    if of_b is None:
        given[3] = given[3][:, 0]
    if of_c is None:
        given[4] = given[4][:, 0]
    wanted = gradients(slow_scan, given)
    assert_all_close(gradients(scan, given), wanted, tolerances.SCAN_FLOAT32)


def test_the_operators_refuse_what_the_kernel_would_read_beyond():
    u, delta, A, B, C = inputs(2)
    as_read = [x.transpose(1, 2) for x in (u, delta)]
    B, C = (x.permute(0, 3, 1, 2).contiguous() for x in (B, C))
    none = [None] * 5
    with pytest.raises(ValueError, match=r"C must have shape \(2, 37, 2, 4\)"):
        compiled.scan_forward(*as_read, A, B, C[:, :, :1], *none, True, False)
    out, _, states = compiled.scan_forward(*as_read, A, B, C, *none, True, True)
    with pytest.raises(ValueError, match="states must have shape"):
        compiled.scan_backward(out, None, *as_read, A, B, C, *none, states[1:], True)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_way_back_is_an_operator_that_compilers_see_whole(groups):
    u, delta, A, B, C = inputs(groups, length=300)
    as_read = [x.transpose(1, 2) for x in (u, delta)]
    B, C = (x.permute(0, 3, 1, 2).contiguous() for x in (B, C))
    none = [None] * 5
    out, _, states = compiled.scan_forward(*as_read, A, B, C, *none, True, True)
    given = (out, None, *as_read, A, B, C, *none, states, True)
    torch.library.opcheck(compiled.scan_backward, given)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("groups", [1, 2])
def test_compiled_by_inductor_it_goes_back_through_groups(groups):
    given = inputs(groups)

    def function(u, delta, A, B, C):
        return scan(u, delta, A, B * 2, C.sin()).sin()

    found = gradients(torch.compile(function, fullgraph=True), given)
    assert_all_close(found, gradients(function, given), tolerances.SCAN_FLOAT32)


class Scan(torch.nn.Module):
    def forward(self, *parts):
        return scan(*parts)


def test_an_exported_scan_goes_back_though_it_was_exported_without_gradients():
    given = inputs(2, length=300)
    module = torch.export.export(Scan(), given).module()
    assert_all_close(gradients(module, given), gradients(scan, given), tolerances.MODEL_FLOAT32)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_who_records_what_torch_does_gets_what_the_kernels_do():
    given, other = inputs(2), tuple(x.flip(0) for x in inputs(2))
    for recorded in (torch.jit.trace(Scan(), given), make_fx(scan)(*given)):
        assert_close(recorded(*other), scan(*other), tolerances.MODEL_FLOAT32)
    x, weight = torch.randn(2, 8, 20), torch.randn(8, 4)

    def convolve(x):
        return causal_conv1d(x, weight, None, "silu")

    def attend(x):
        return attention(x, x, x, 0.5)

    for function, shape in ((convolve, x.shape), (attend, (2, 2, 9, 8))):
        first, second = torch.randn(2, *shape)
        assert_close(make_fx(function)(first)(second), function(second), tolerances.MODEL_FLOAT32)


def test_fake_tensors_have_shapes_and_are_never_read():
    real = inputs(2)
    mode = FakeTensorMode()
    with mode:
        fake = [mode.from_tensor(x) for x in real]
        assert scan(*fake).shape == real[0].shape
    with pytest.raises(RuntimeError, match="is a fake tensor, which holds nothing"):
        scan(*fake)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tangents_are_carried_on():
    u, *rest = inputs()
    weight = torch.ones(8, 3)
    still = u.clone().requires_grad_()
    for function in (lambda x: scan(x, *rest), lambda x: causal_conv1d(x, weight)):
        (gradient,) = torch.autograd.grad(function(still).sum(), still)
        with forward_ad.dual_level(), torch.no_grad():
            moved = function(forward_ad.make_dual(u, torch.ones_like(u)))
            tangent = forward_ad.unpack_dual(moved).tangent
        assert tangent.shape == u.shape
        assert_close(tangent.sum(), gradient.sum(), tolerances.SCAN_FLOAT32)


HUGE = [-1e3, -88.0, -1e38, -3.3e38, float("-inf"), 3e38, float("inf"), float("nan")]


@pytest.mark.parametrize("d", [3, 16, 20])
def test_gates_shut_for_huge_numbers(d):
    # Of two draws in a hundred a sum nearly cancels, of which rounding is a larger part.
    torch.manual_seed(0)
    x = torch.randn(1, d, len(HUGE), requires_grad=True)
    z = torch.tensor(HUGE).expand(1, d, -1).clone().requires_grad_()
    rest = (-torch.ones(d, 2), torch.randn(1, 2, len(HUGE)), torch.randn(1, 2, len(HUGE)))
    outcomes = []
    for function in (selective_scan, reference.selective_scan):
        y = function(x, torch.ones_like(x), *rest, z=z)
        outcomes.append([y, *torch.autograd.grad(y[..., :4].sum(), (x, z))])
    for found, wanted in zip(*outcomes, strict=True):
        torch.testing.assert_close(
            found,
            wanted,
            rtol=tolerances.SCAN_FLOAT32,
            atol=tolerances.MODEL_FLOAT32,
            equal_nan=True,
        )
    # The values as they are, the convolution doing nothing.
    weight = torch.tensor([[0.0, 1.0]]).expand(d, 2)
    found = causal_conv1d(z.detach(), weight, None, "silu")
    wanted = conv_reference.causal_conv1d(z.detach(), weight, None, "silu")
    finite = slice(0, 4)
    torch.testing.assert_close(
        found[..., finite],
        wanted[..., finite],
        rtol=tolerances.SCAN_FLOAT32,
        atol=tolerances.MODEL_FLOAT32,
    )


@pytest.mark.parametrize("where", ["B", "C", "u"])
@pytest.mark.parametrize("d", [1, 3, 17, 20, 130])
def test_an_infinite_input_ends_up_where_it_does_in_the_reference(d, where):
    given = list(inputs(length=20, d=d))
    place = {"u": 0, "B": 3, "C": 4}[where]
    given[place][0, 0, ..., 7] = float("inf")
    outcomes = []
    for function in (scan, slow_scan):
        leaves = [part.clone().requires_grad_() for part in given]
        y = function(*leaves)
        outcomes.append([y, *torch.autograd.grad(y.sum(), leaves)])
    for one, other in zip(*outcomes, strict=True):
        assert torch.equal(one.isnan(), other.isnan())
        assert torch.equal(one.isinf(), other.isinf())


def test_a_step_of_zero_leaves_the_state_whatever_its_finite_rate():
    u, delta, A, B, C = inputs()
    for rate in (torch.finfo(torch.float32).min, -1e38, 0.0):
        A = torch.full_like(A, rate)
        given = (u, torch.zeros_like(delta), A, B, C)
        state = torch.ones(2, *A.shape)
        found, wanted = (
            function(*given, initial_state=state, return_last_state=True)
            for function in (selective_scan, reference.selective_scan)
        )
        assert_close(found[0], wanted[0], tolerances.MODEL_FLOAT32)
        assert torch.equal(found[1], state)


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64])
def test_whole_and_complex_numbers_are_refused(kind):
    u, delta, A, B, C = inputs()
    with pytest.raises(ValueError, match=f"u must be of a floating-point type; got {kind}"):
        selective_scan(u.to(kind), delta, A, B, C)
    with pytest.raises(ValueError, match=f"A must be of a floating-point type; got {kind}"):
        selective_scan(u, delta, A.to(kind), B, C)
    with pytest.raises(ValueError, match=f"x must be of a floating-point type; got {kind}"):
        causal_conv1d(u.to(kind), torch.ones(8, 3))


@pytest.mark.parametrize(("a", "b"), [((2, 7), (40, 2)), ((2, 8), (1, 2)), ((2, 8), (40, 3))])
def test_factors_that_do_not_fit_are_refused(a, b):
    x, weight = torch.randn(200, 8), torch.randn(40, 8)
    with pytest.raises(ValueError, match=r"a \(r, 8\) and b \(n, r\) are needed"):
        low_rank.low_rank_linear(x, weight, None, torch.ones(a), torch.ones(b), 1.0)
    with pytest.raises(ValueError, match=r"a \(r, 8\) and b \(n, r\) are needed"):
        low_rank.merged(weight, torch.ones(a), torch.ones(b), 1.0, torch.float32)


def test_attention_refuses_a_mask_of_true_and_false_and_rates_that_are_none():
    x = torch.randn(1, 2, 5, 8)
    with pytest.raises(ValueError, match=r"mask is added to scores, so it must be of a floating"):
        attention(x, x, x, 0.5, torch.ones(1, 1, 5, 5, dtype=torch.bool))
    for rate in (-1, 1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"rate must be in 0..1, 1 excluded; got"):
            attention(x, x, x, 0.5, rate=rate)


@pytest.mark.parametrize("name", ["D", "z", "delta_bias", "initial_state"])
def test_optional_parts_of_whole_numbers_are_refused_too(name):
    shapes = {"D": (8,), "z": (2, 8, 9), "delta_bias": (8,), "initial_state": (2, 8, 4)}
    u, delta = torch.randn(2, 2, 8, 9)
    given = (u, delta, -torch.rand(8, 4), torch.randn(2, 4, 9), torch.randn(2, 4, 9))
    whole = torch.ones(shapes[name], dtype=torch.int64)
    with pytest.raises(ValueError, match=f"{name} must be of a floating-point type; got torch.int"):
        selective_scan(*given, **{name: whole})
    for part, shape in (("bias", (8,)), ("initial_states", (2, 8, 2))):
        with pytest.raises(ValueError, match=f"{part} must be of a floating-point type"):
            causal_conv1d(u, torch.randn(8, 3), **{part: torch.ones(shape, dtype=torch.int64)})


def through_both(u, delta, weight, B, C, A):
    y = causal_conv1d(u, weight, activation="silu")
    return selective_scan(y, delta, A, B, C, delta_softplus=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("length", [1, 9, 200])
def test_transforms_of_torch_func_go_through_scan_and_convolution(length):
    torch.manual_seed(0)
    u, delta = torch.randn(2, 3, 2, 8, length)
    B, C = torch.randn(2, 3, 2, 4, length)
    A, weight = -torch.rand(8, 4), torch.randn(8, 3)
    found = torch.func.vmap(through_both, (0, 0, None, 0, 0, None))(u, delta, weight, B, C, A)
    for one in range(3):
        wanted = through_both(u[one], delta[one], weight, B[one], C[one], A)
        assert_close(found[one], wanted, tolerances.SCAN_FLOAT32)

    def loss(u, *rest):
        return through_both(u, *rest).square().sum()

    rest = (delta[0], weight, B[0], C[0], A)
    gradient = torch.func.grad(loss)(u[0], *rest)
    plain = u[0].clone().requires_grad_()
    loss(plain, *rest).backward()
    assert_close(gradient, plain.grad, tolerances.SCAN_FLOAT32)
    each = torch.func.vmap(torch.func.grad(loss), (0, 0, None, 0, 0, None))
    assert_close(each(u, delta, weight, B, C, A)[0], plain.grad, tolerances.SCAN_FLOAT32)
    exact = [part.double() for part in (u[0], *rest)]
    ones = torch.ones_like(exact[0])
    moved = torch.func.jvp(lambda x: loss(x, *exact[1:]), (exact[0],), (ones,))[1]
    gradient = torch.func.grad(loss)(*exact)
    assert_close(moved, gradient.sum(), tolerances.FLOAT64)
