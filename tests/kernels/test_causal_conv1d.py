"""The causal convolution: every variant against the reference, and what makes it causal."""

import itertools

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from longdoc.kernels import causal_conv1d, native_library
from longdoc.kernels.causal_conv1d import blocked, choose, compiled, reference
from tests import tolerances
from tests.assertions import assert_close

needs_native = pytest.mark.skipif(
    native_library.load() is None, reason="the compiled kernels were not built on this machine"
)
VARIANTS = [blocked, pytest.param(compiled, marks=needs_native)]


def inputs(b=2, d=20, l=37, k=4, seed=0):  # noqa: E741
    """Draw every input, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "x": draw(b, d, l), "weight": draw(d, k), "bias": draw(d),
        "initial_states": draw(b, d, k - 1),
    }  # fmt: skip


def outcome(convolve, given, dtype, activation="silu", without=(), starts=None):
    """Convolve; give output, final states and all gradients."""
    leaves = {
        name: value.detach().clone().to(dtype).requires_grad_()
        for name, value in given.items()
        if name not in without
    }
    y, last = convolve(**leaves, activation=activation, return_final_states=True, starts=starts)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    ends = torch.linspace(1, -1, last.numel(), dtype=last.dtype).view_as(last)
    ((y * weights).sum() + (last * ends).sum()).backward()
    return {"y": y.detach(), "last": last.detach(), **{k: v.grad for k, v in leaves.items()}}


def assert_same_outcome(variant, given, **options):
    wanted = outcome(reference.causal_conv1d, given, torch.float64, **options)
    found = outcome(variant.causal_conv1d, given, torch.float32, **options)
    for name, value in wanted.items():
        assert_close(found[name], value, tolerances.SCAN_FLOAT32, name)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 63, 64, 65, 66, 67, 129])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_output_final_states_and_every_gradient_equal_the_reference(variant, length, k):
    assert_same_outcome(variant, inputs(l=length, k=k))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("without", list(itertools.product(((), "bias"), ((), "initial_states"))))
@pytest.mark.parametrize("activation", [None, "silu", "swish"])
def test_every_optional_argument_on_and_off(variant, without, activation):
    chosen = {name for name in without if name}
    assert_same_outcome(variant, inputs(), activation=activation, without=chosen)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("d", [1, 15, 16, 17, 100])
def test_any_number_of_channels(variant, d):
    assert_same_outcome(variant, inputs(d=d, l=70))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("without", [(), {"initial_states"}])
def test_documents_one_after_the_other_are_each_by_itself(variant, without):
    starts = torch.tensor([0, 1, 3, 70, 134, 140])
    given = inputs(b=1, l=140)
    given["initial_states"] = torch.randn(5, 20, 3, dtype=torch.float64)
    assert_same_outcome(variant, given, starts=starts, without=without)


def test_it_is_what_torch_calls_a_grouped_convolution():
    given = inputs()
    wide = F.pad(given["x"], (3, 0))
    wanted = F.silu(F.conv1d(wide, given["weight"][:, None], given["bias"], groups=20))
    found = reference.causal_conv1d(given["x"], given["weight"], given["bias"], "silu")
    assert_close(found, wanted, tolerances.FLOAT64)


def test_gradients_are_those_of_the_function_in_float64():
    given = [value.requires_grad_() for value in inputs(b=1, d=3, l=6).values()]

    def convolve(x, weight, bias, begin):
        return causal_conv1d(x, weight, bias, "silu", begin, True)

    assert torch.autograd.gradcheck(convolve, given)


@pytest.mark.parametrize("variant", [reference, *VARIANTS])
def test_cut_anywhere_and_continued_gives_the_same(variant):
    given = {name: value.float() for name, value in inputs(l=20).items()}
    whole, last = variant.causal_conv1d(**given, return_final_states=True)
    for cut in (1, 2, 3, 11, 19):
        rest = {**given, "x": given["x"][:, :, cut:]}
        first = {**given, "x": given["x"][:, :, :cut]}
        y, rest["initial_states"] = variant.causal_conv1d(**first, return_final_states=True)
        z, end = variant.causal_conv1d(**rest, return_final_states=True)
        assert_close(torch.cat([y, z], dim=2), whole, tolerances.SCAN_FLOAT32, "output")
        assert_close(end, last, tolerances.SCAN_FLOAT32, "state")


@needs_native
def test_bfloat16_slices_give_bfloat16():
    x = torch.randn(2, 40, 48).bfloat16()[:, :, :20].transpose(1, 2)
    given = {name: value.bfloat16() for name, value in inputs().items()}
    y = causal_conv1d(x, given["weight"], given["bias"], "silu")
    wanted = reference.causal_conv1d(
        x.double(), given["weight"].double(), given["bias"].double(), "silu"
    )
    assert y.dtype == torch.bfloat16
    assert_close(y.double(), wanted, tolerances.BFLOAT16)


@needs_native
def test_every_level_of_this_processor_equals_the_reference(monkeypatch):
    for level in range(native_library.level() + 1):
        monkeypatch.setattr(native_library, "level", lambda level=level: level)
        assert_same_outcome(compiled, inputs(d=37, l=70))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": torch.zeros(0, 20, 37)}, "none of them 0"),
        ({"weight": torch.zeros(20, 5)}, "k = 2, 3 or 4"),
        ({"bias": torch.zeros(19)}, r"bias must have shape \(20,\)"),
        ({"initial_states": torch.zeros(2, 20, 2)}, r"initial_states must have shape \(2, 20, 3\)"),
        ({"activation": "gelu"}, 'activation must be None, "silu" or "swish"'),
        ({"starts": torch.tensor([0, 37])}, "b = 1; got b = 2"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(changed, message):
    given = {name: value.float() for name, value in inputs().items()}
    with pytest.raises(ValueError, match=message):
        causal_conv1d(**{**given, **changed})


def test_without_the_library_the_blocked_variant_runs(monkeypatch):
    monkeypatch.setattr(native_library, "load", lambda: None)
    monkeypatch.setattr(compiled, "causal_conv1d", None)
    given = {name: value.float() for name, value in inputs().items()}
    assert_close(
        choose.causal_conv1d(**given), reference.causal_conv1d(**given), tolerances.SCAN_FLOAT32
    )


@needs_native
def test_a_bias_may_have_any_strides():
    given = {name: value.float() for name, value in inputs().items()}
    for bias in (torch.randn(20, 3)[:, 1], torch.ones(1).expand(20)):
        wanted = reference.causal_conv1d(given["x"], given["weight"], bias, "silu")
        found = compiled.causal_conv1d(given["x"], given["weight"], bias, "silu")
        assert_close(found, wanted, tolerances.SCAN_FLOAT32)


@needs_native
def test_a_default_device_of_another_kind_changes_nothing():
    given = {name: value.float() for name, value in inputs(l=61).items()}
    wanted = reference.causal_conv1d(**given)
    with torch.device("meta"):
        found = compiled.causal_conv1d(**given)
    assert_close(found, wanted, tolerances.SCAN_FLOAT32)
