"""The selective scan: every variant against the reference, and the properties of the recurrence."""

import itertools
import multiprocessing
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longdoc.kernels import memory, native_library, selective_scan
from longdoc.kernels.selective_scan import blocked, choose, compiled, reference
from tests import tolerances
from tests.assertions import assert_close

OPTIONAL = ("D", "z", "delta_bias", "initial_state")
needs_native = pytest.mark.skipif(
    native_library.load() is None, reason="the compiled kernels were not built on this machine"
)
VARIANTS = [blocked, pytest.param(compiled, marks=needs_native)]


def inputs(b=2, d=20, l=37, n=5, g=None, seed=0):  # noqa: E741
    """Draw every input, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    part = (b, n, l) if g is None else (b, g, n, l)
    return {
        "u": draw(b, d, l), "delta": draw(b, d, l) - 1, "A": -draw(d, n).exp(),
        "B": draw(*part), "C": draw(*part), "D": draw(d), "z": draw(b, d, l),
        "delta_bias": draw(d), "initial_state": draw(b, d, n),
    }  # fmt: skip


def outcome(scan, given, dtype, without=(), **options):
    """Run a scan; give output, last state and all gradients."""
    leaves = {
        name: value.detach().clone().to(dtype).requires_grad_()
        for name, value in given.items()
        if name not in without
    }
    y, last = scan(**leaves, delta_softplus=True, return_last_state=True, **options)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    ends = torch.linspace(1, -1, last.numel(), dtype=last.dtype).view_as(last)
    ((y * weights).sum() + (last * ends).sum()).backward()
    return {"y": y.detach(), "last": last.detach(), **{k: v.grad for k, v in leaves.items()}}


def assert_same_outcome(variant, given, without=(), **options):
    wanted = outcome(reference.selective_scan, given, torch.float64, without, **options)
    found = outcome(variant.selective_scan, given, torch.float32, without, **options)
    for name, value in wanted.items():
        assert_close(found[name], value, tolerances.SCAN_FLOAT32, name)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 31, 32, 33, 65, 97, 127, 128, 129, 263])
def test_output_last_state_and_every_gradient_equal_the_reference(variant, length):
    assert_same_outcome(variant, inputs(l=length))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.slow
def test_a_long_document_equals_the_reference(variant):
    assert_same_outcome(variant, inputs(b=1, d=5, l=4097, n=3))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("d", "n", "g"), [(1, 1, 1), (16, 16, 2), (130, 16, 1), (140, 4, 2), (33, 7, 3)]
)
def test_any_number_of_channels_states_and_groups(variant, d, n, g):
    assert_same_outcome(variant, inputs(d=d, n=n, g=g, l=40))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("without", list(itertools.product(*(((), (name,)) for name in OPTIONAL))))
def test_every_optional_argument_on_and_off(variant, without):
    assert_same_outcome(variant, inputs(l=34), {name for part in without for name in part})


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n", [5, 8, 16])
def test_frozen_rates_change_no_other_gradient(variant, n):
    given = inputs(n=n)
    wanted = outcome(variant.selective_scan, given, torch.float32)
    leaves = {k: v.float().requires_grad_(k != "A") for k, v in given.items()}
    y, last = variant.selective_scan(**leaves, delta_softplus=True, return_last_state=True)
    weights, ends = (
        torch.linspace(a, -a, part.numel()).view_as(part) for a, part in ((-1, y), (1, last))
    )
    ((y * weights).sum() + (last * ends).sum()).backward()
    assert leaves["A"].grad is None
    for name in given.keys() - {"A"}:
        assert_close(leaves[name].grad, wanted[name], 1e-6, name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_softplus_the_step_is_delta_itself(variant):
    given = {name: value.float() for name, value in inputs().items()}
    given["delta"] = given["delta"].abs()
    wanted = reference.selective_scan(**{k: v.double() for k, v in given.items()})
    assert_close(variant.selective_scan(**given), wanted.float(), tolerances.SCAN_FLOAT32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_transposed_expanded_and_sliced_inputs_give_the_same(variant):
    given = {name: value.float() for name, value in inputs(d=16, l=40).items()}
    wanted = variant.selective_scan(**given, delta_softplus=True)
    odd = dict(given)
    odd["u"] = given["u"].transpose(1, 2).contiguous().transpose(1, 2)
    odd["delta"] = torch.cat([given["delta"], given["delta"]], dim=2)[:, :, :40]
    odd["z"] = given["z"].repeat(1, 2, 1)[:, :16]
    odd["A"] = given["A"].t().contiguous().t()
    assert_close(variant.selective_scan(**odd, delta_softplus=True), wanted, 0.0)


@pytest.mark.parametrize("variant", [reference, blocked])
def test_gradients_are_those_of_the_function_in_float64(variant):
    given = [value.requires_grad_() for value in inputs(b=1, d=3, l=5, n=2).values()]

    def scan(u, delta, A, B, C, D, z, bias, state):
        return variant.selective_scan(u, delta, A, B, C, D, z, bias, True, True, state)

    assert torch.autograd.gradcheck(scan, given)


def test_weights_that_do_not_vary_over_tokens():
    given = inputs(d=6, n=4)
    generator = torch.Generator().manual_seed(3)
    given["B"], given["C"] = (
        torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    wanted = reference.selective_scan(**given)
    assert_close(selective_scan(**given), wanted, tolerances.FLOAT64)


@pytest.mark.parametrize("variant", [reference, *VARIANTS])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(length=st.integers(2, 90), data=st.data())
def test_cut_anywhere_and_continued_gives_the_same(variant, length, data):
    cut = data.draw(st.integers(1, length - 1))
    given = {name: value.float() for name, value in inputs(b=1, d=4, l=length, n=3).items()}
    whole, last = variant.selective_scan(**given, delta_softplus=True, return_last_state=True)
    state, parts = given["initial_state"], []
    for piece in (slice(0, cut), slice(cut, length)):
        now = {
            k: v[..., piece] if k in ("u", "delta", "B", "C", "z") else v for k, v in given.items()
        }
        now["initial_state"] = state
        y, state = variant.selective_scan(**now, delta_softplus=True, return_last_state=True)
        parts.append(y)
    assert_close(torch.cat(parts, dim=2), whole, tolerances.SCAN_FLOAT32, "output")
    assert_close(state, last, tolerances.SCAN_FLOAT32, "state")


@pytest.mark.parametrize("variant", [reference, *VARIANTS])
def test_a_later_token_changes_no_earlier_output(variant):
    given = {name: value.float() for name, value in inputs(l=50).items()}
    before = variant.selective_scan(**given, delta_softplus=True)
    given["u"] = given["u"].clone()
    given["u"][:, :, 30:] += 5
    after = variant.selective_scan(**given, delta_softplus=True)
    assert torch.equal(after[:, :, :30], before[:, :, :30])
    assert not torch.equal(after[:, :, 30:], before[:, :, 30:])


@pytest.mark.parametrize("variant", [reference, *VARIANTS])
def test_padding_with_step_zero_leaves_the_state_as_it_was(variant):
    given = {name: value.float() for name, value in inputs(l=45).items()}
    given.pop("delta_bias")
    given["delta"] = given["delta"].abs()
    given["delta"][:, :, 20:] = 0
    _, last = variant.selective_scan(**given, return_last_state=True)
    short = {k: v[..., :20] if k in ("u", "delta", "B", "C", "z") else v for k, v in given.items()}
    _, wanted = variant.selective_scan(**short, return_last_state=True)
    assert_close(last, wanted, 1e-6)


@pytest.mark.parametrize("variant", [reference, *VARIANTS])
def test_one_document_alone_equals_it_in_a_batch(variant):
    given = {name: value.float() for name, value in inputs(b=3, l=40).items()}
    whole = variant.selective_scan(**given, delta_softplus=True)
    shared = ("A", "D", "delta_bias")
    alone = {k: v if k in shared else v[1:2] for k, v in given.items()}
    assert_close(variant.selective_scan(**alone, delta_softplus=True), whole[1:2], 1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("without", [(), {"initial_state"}])
def test_documents_one_after_the_other_are_each_by_itself(variant, without):
    starts = torch.tensor([0, 1, 3, 35, 67, 100])
    given = inputs(b=1, l=100, g=2)
    given["initial_state"] = torch.randn(5, 20, 5, dtype=torch.float64)
    assert_same_outcome(variant, given, without, starts=starts)


@pytest.mark.parametrize("starts", [[0, 5, 5, 37], [1, 37], [0, 30], [0]])
def test_places_of_documents_that_do_not_fit_are_refused(starts):
    given = {name: value.float() for name, value in inputs(b=1).items()}
    with pytest.raises(ValueError, match="starts must"):
        selective_scan(**given, starts=torch.tensor(starts))


@needs_native
@pytest.mark.parametrize("starts", [None, torch.tensor([0, 20, 40])])
def test_the_operators_pass_torchs_own_checks(starts):
    b = 2 if starts is None else 1
    given = {name: value.float() for name, value in inputs(b=b, l=40).items()}
    tensors = [given[name] for name in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")]
    u, delta, A, B, C, D, z, bias = tensors
    wide = [part[:, None].permute(0, 3, 1, 2).contiguous() for part in (B, C)]
    arguments = [u.mT, delta.mT, A, *wide, D, z.mT, bias, None, starts, True, True]
    floats = [x.detach().requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point()
              else x for x in arguments]  # fmt: skip
    torch.library.opcheck(compiled.scan_forward, floats, test_utils=(
        "test_schema", "test_autograd_registration", "test_faketensor",
    ))  # fmt: skip


@needs_native
def test_a_compiled_training_runs_with_memory_of_its_own(monkeypatch):
    own = memory.Blocks()
    own.active = True
    monkeypatch.setattr(memory, "BLOCKS", own)
    monkeypatch.setattr(memory, "SMALLEST", 1)
    given = {name: value.float() for name, value in inputs(l=300).items()}

    def loss(u):
        return selective_scan(**{**given, "u": u}, delta_softplus=True).square().sum()

    found = []
    for run in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
        u = given["u"].clone().requires_grad_()
        run(u).backward()
        found.append(u.grad)
    assert_close(found[1], found[0], 1e-5)


@needs_native
def test_a_compiled_function_sees_the_scan_whole():
    given = {name: value.float() for name, value in inputs(l=40).items()}

    def double(u):
        return selective_scan(**{**given, "u": u}, delta_softplus=True) * 2

    traced = torch.compile(double, backend="aot_eager", fullgraph=True)
    assert_close(traced(given["u"]), double(given["u"]), 1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("step", [1e-6, 1.0, 30.0, 1e3])
@pytest.mark.parametrize("rate", [-1e-8, -1.0, -1e4])
def test_extreme_steps_and_rates_stay_finite_and_right(variant, step, rate):
    given = inputs(l=40)
    given["delta"] = torch.full_like(given["delta"], step)
    given["A"] = torch.full_like(given["A"], rate)
    assert_same_outcome(variant, given)


@needs_native
def test_states_that_hardly_fade_are_as_exact_as_float32_lets_them_be():
    given = inputs(b=1, d=64, l=2000, n=16)
    given["A"] = -torch.linspace(0, 1e-3, 16, dtype=torch.float64).expand(64, 16).contiguous()
    arguments = {name: value.float() for name, value in given.items()}
    wanted = reference.selective_scan(**given, delta_softplus=True)
    found = compiled.selective_scan(**arguments, delta_softplus=True)
    scale = wanted.abs().max()
    assert_close(found.double() / scale, wanted / scale, 1e-6)


@needs_native
def test_gradients_that_fade_below_float32_cost_no_more_and_are_zero():
    given = {name: value.float() for name, value in inputs(b=1, l=2000).items()}
    given["A"], given["delta"] = torch.full((20, 5), -1.0), torch.ones(1, 20, 2000)
    given["u"].requires_grad_()
    del given["delta_bias"]
    y = compiled.selective_scan(**given, delta_softplus=True)
    y[:, :, -1].sum().backward()
    # What a float32 cannot hold whole is zero, not a number that processors are slow with.
    gradient = given["u"].grad.abs()
    assert ((gradient == 0) | (gradient >= torch.finfo(torch.float32).tiny)).all()
    assert (gradient[:, :, :500] == 0).all()
    assert (gradient[:, :, -1] > 0).any()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_nan_and_infinity_pass_through_as_in_the_reference(variant, odd):
    given = {name: value.float() for name, value in inputs(l=40).items()}
    given["u"][0, 3, 17] = odd
    wanted = reference.selective_scan(**given, delta_softplus=True)
    found = variant.selective_scan(**given, delta_softplus=True)
    assert torch.equal(torch.isfinite(found), torch.isfinite(wanted))


@needs_native
def test_results_do_not_depend_on_the_number_of_threads():
    given = inputs(d=300, l=70)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(outcome(compiled.selective_scan, given, torch.float32))
    finally:
        torch.set_num_threads(before)
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name
        assert torch.equal(value, found[2][name]), name


@needs_native
def test_every_level_of_this_processor_equals_the_reference(monkeypatch):
    for level in range(native_library.level() + 1):
        monkeypatch.setattr(native_library, "level", lambda level=level: level)
        assert_same_outcome(compiled, inputs(d=37, l=300, n=16))


def _scan_in_child(queue):
    # torch's own operations hang in a forked child if they use threads, so they must not; the
    # kernel starts two, as it would in a process of its own.
    torch.set_num_threads(1)
    torch.get_num_threads = lambda: 2
    given = {name: value.float() for name, value in inputs(l=70).items()}
    queue.put(selective_scan(**given, delta_softplus=True).sum().item())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_scans_as_its_parent_does():
    given = {name: value.float() for name, value in inputs(l=70).items()}
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    wanted = selective_scan(**given, delta_softplus=True).sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_scan_in_child, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=60) == pytest.approx(wanted, rel=1e-6)
    finally:
        child.join(timeout=10)
        child.kill()
        torch.set_num_threads(before)


def test_bfloat16_in_gives_bfloat16_out_and_a_float32_state():
    given = {name: value.bfloat16() for name, value in inputs(l=40).items()}
    y, last = selective_scan(**given, delta_softplus=True, return_last_state=True)
    exact = {name: value.double() for name, value in given.items()}
    wanted = reference.selective_scan(**exact, delta_softplus=True)
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    assert_close(y.double(), wanted, tolerances.BFLOAT16)


def test_float64_in_gives_float64_out():
    y, last = selective_scan(**inputs(), return_last_state=True)
    assert (y.dtype, last.dtype) == (torch.float64, torch.float64)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"u": torch.zeros(0, 20, 37)}, "none of them 0"),
        ({"u": torch.zeros(2, 20, 0)}, "none of them 0"),
        ({"delta": torch.zeros(2, 20, 36)}, "delta must have the shape of u"),
        ({"A": torch.zeros(19, 5)}, r"A must have shape \(20, n\)"),
        ({"B": torch.zeros(2, 4, 37)}, r"B must have shape \(2, 5, 37\)"),
        ({"C": torch.zeros(5)}, r"C must have shape \(2, 5, 37\)"),
        ({"C": torch.zeros(2, 3, 5, 37)}, "with g dividing 20"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_one_sentence(changed, message):
    given = {name: value.float() for name, value in inputs().items()}
    with pytest.raises(ValueError, match=message):
        selective_scan(**{**given, **changed})


def test_without_the_library_the_blocked_variant_runs(monkeypatch):
    monkeypatch.setattr(native_library, "load", lambda: None)
    monkeypatch.setattr(compiled, "selective_scan", None)
    given = {name: value.float() for name, value in inputs().items()}
    wanted = reference.selective_scan(**given, delta_softplus=True)
    found = choose.selective_scan(**given, delta_softplus=True)
    assert_close(found, wanted, tolerances.SCAN_FLOAT32)


PEAK = """
import resource, sys, torch
from longdoc.kernels import selective_scan
d, l, n = 128, 4096, 16
u, delta = torch.randn(1, d, l, requires_grad=True), torch.randn(1, d, l, requires_grad=True)
A = -torch.rand(d, n)
B, C = (torch.randn(*sys.argv[1:] and (d, n) or (1, n, l), requires_grad=True) for _ in "BC")
warm = selective_scan(u[..., :64], delta[..., :64], A, *(
    part if part.dim() == 2 else part[..., :64] for part in (B, C)), delta_softplus=True)
warm.sum().backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
selective_scan(u, delta, A, B, C, delta_softplus=True).sum().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("constant", [[], ["constant"]])
def test_blocks_do_not_keep_what_they_promise_not_to_keep(constant):
    environment = {**os.environ, "LONGDOC_NATIVE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *constant],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    # Megabytes; a tensor of (b, d, l, n) has 32, and in pieces it had come to several hundred.
    assert float(done.stdout) < 32
