"""Gradients of gradients, and torch.func, through every kernel."""

import weakref
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from longdoc.kernels import (
    add_norm,
    attention,
    causal_attention,
    causal_conv1d,
    exchange,
    gelu,
    low_rank,
    residual,
    rms_norm,
    selective_scan,
    twice,
)
from longdoc.kernels.attention import reference as attention_reference
from longdoc.kernels.causal_attention import reference as causal_reference
from longdoc.kernels.causal_conv1d import reference as conv_reference
from longdoc.kernels.dropout import dropout
from longdoc.kernels.selective_scan import blocked
from longdoc.kernels.selective_scan import reference as scan_reference
from longdoc.pretraining.objective import linear_cross_entropy
from tests import tolerances
from tests.assertions import assert_close


def drawn(*shape, scale=1.0, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * scale


def twice_through(function, inputs, kind):
    """Give the gradients, and those of a penalty on them, by a gradient that needs none itself."""
    given = [part.detach().to(kind).requires_grad_() for part in inputs]
    torch.manual_seed(5)
    made = function(*given)
    outputs = made if isinstance(made, tuple) else (made,)
    loss = sum((part * drawn(*part.shape).to(part.dtype)).sum() for part in outputs)
    first = torch.autograd.grad(loss, given, create_graph=True)
    # A sum alone, so that the gradient that comes from above needs no gradient.
    penalty = sum((part * drawn(*part.shape, seed=1).to(part.dtype)).sum() for part in first)
    return *first, *torch.autograd.grad(penalty, given, allow_unused=True)


def assert_twice(ours, wanted, *inputs):
    found = twice_through(ours, inputs, torch.float32)
    for place, (one, other) in enumerate(
        zip(found, twice_through(wanted, inputs, torch.float64), strict=True)
    ):
        if other is None or one is None:
            assert all(part is None or not part.any() for part in (one, other)), place
        else:
            assert_close(one.detach().double(), other.detach(), tolerances.SCAN_FLOAT32, f"{place}")


def dropped(x, rate):
    """Drop what the kernels drop of it, by the same draw."""
    seed = int(torch.randint(2**62, ()).item())
    return x * dropout(torch.ones(x.shape), rate, seed).to(x.dtype) if rate else x


def added(x, residual, weight, bias, rate=0.0):
    return F.layer_norm(dropped(x, rate) + residual, weight.shape, weight, bias, 1e-5)


def with_low_rank(x, weight, bias, a, b, rate=0.0):
    return F.linear(x, weight, bias) + 2 * F.linear(F.linear(dropped(x, rate), a), b)


def around(x, weight, mixed):
    return residual.around(lambda y: torch.tanh(y @ mixed), x, weight, 1e-5, torch.float32)


def plain_around(x, weight, mixed):
    return x + torch.tanh(F.rms_norm(x, weight.shape, weight, 1e-5) @ mixed)


def gated(x):
    first, second = exchange.halves(x, exchange.Exchange())
    return first * second.sigmoid()


def plain_gated(x):
    first, second = x.chunk(2, dim=2)
    return first * second.sigmoid()


STATES = (drawn(2, 7, 30), drawn(2, 7, 30, seed=1), drawn(30), drawn(30, seed=1))
FACTORS = (drawn(2, 100, 40, scale=0.3), drawn(24, 40, scale=0.3), drawn(24), drawn(4, 40, scale=0.3),
           drawn(24, 4, scale=0.3))  # fmt: skip
SIMPLE = {
    "gelu": (gelu, F.gelu, (drawn(5, 30),)),
    "gelu of columns": (lambda x: gelu(x.t()), lambda x: F.gelu(x.t()), (drawn(5, 30),)),
    "gelu by tanh": (
        partial(gelu, approximate="tanh"), partial(F.gelu, approximate="tanh"), (drawn(5, 30),),
    ),
    "rms_norm": (
        partial(rms_norm, eps=1e-5), lambda x, w: F.rms_norm(x, w.shape, w, 1e-5),
        (STATES[0], STATES[2]),
    ),
    "add_norm": (partial(add_norm, eps=1e-5), added, STATES),
    "add_norm with dropout": (
        partial(add_norm, eps=1e-5, rate=0.3), partial(added, rate=0.3), STATES,
    ),
    "low_rank": (partial(low_rank.low_rank_linear, scaling=2.0), with_low_rank, FACTORS),
    "low_rank with dropout": (
        partial(low_rank.low_rank_linear, scaling=2.0, rate=0.25),
        partial(with_low_rank, rate=0.25), FACTORS,
    ),
    "around": (around, plain_around, (STATES[0], STATES[2], drawn(30, 30, scale=0.2))),
    "halves": (gated, plain_gated, STATES[:1]),
}  # fmt: skip


WITHIN = ("around", "halves", *(name for name in SIMPLE if "dropout" in name))
"""What layers call, who ask first whether torch.func is at work, and what draws at random."""


@pytest.mark.parametrize("name", SIMPLE)
def test_gradients_of_gradients_are_those_of_torch(name):
    ours, wanted, inputs = SIMPLE[name]
    assert_twice(ours, wanted, *inputs)


@pytest.mark.parametrize("name", SIMPLE)
def test_what_a_checkpoint_computes_again_has_gradients_of_gradients(name):
    ours, wanted, inputs = SIMPLE[name]
    assert_twice(partial(checkpoint, ours, use_reentrant=False), wanted, *inputs)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in SIMPLE if name not in WITHIN])
def test_torch_func_goes_through(name):
    ours, wanted, inputs = SIMPLE[name]
    exact = [part.double() for part in inputs]
    found = torch.func.grad(lambda x: ours(x, *inputs[1:]).tanh().sum())(inputs[0])
    other = torch.func.grad(lambda x: wanted(x, *exact[1:]).tanh().sum())(exact[0])
    assert_close(found.double(), other, tolerances.SCAN_FLOAT32)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in SIMPLE if "dropout" not in name])
def test_a_tangent_of_the_gradient_from_above_goes_on(name):
    ours, wanted, inputs = SIMPLE[name]

    def moved(function, kind):
        x, *rest = (part.to(kind).requires_grad_() for part in inputs)
        y = function(x, *rest)
        with forward_ad.dual_level():
            above = forward_ad.make_dual(torch.ones_like(y), drawn(*y.shape).to(kind))
            (found,) = torch.autograd.grad(y, x, above)
            return forward_ad.unpack_dual(found).tangent

    assert_close(
        moved(ours, torch.float32).detach().double(),
        moved(wanted, torch.float64).detach(),
        tolerances.SCAN_FLOAT32,
    )


BATCHED = {
    "gelu": (gelu, (5,)),
    "attention": (lambda x: attention(x, x, x, 0.3)[0, 0, :2], (1, 2, 20, 4)),
    "causal attention": (lambda x: causal_attention(x, x, x, 0.3, 7)[0, 0, :2], (1, 2, 20, 4)),
    "convolution": (lambda x: causal_conv1d(x, torch.ones(3, 3))[0, 0, :5], (1, 3, 70)),
    "scan": (
        lambda x: selective_scan(
            x, torch.ones(1, 3, 200), -torch.ones(3, 4), drawn(1, 4, 200), drawn(1, 4, 200)
        )[0, 0, -5:],
        (1, 3, 200),
    ),
    "scan of a block": (
        lambda x: selective_scan(
            x, x.sigmoid(), -torch.ones(3, 4), x[:, :1].expand(-1, 4, -1), drawn(1, 4, 64)
        )[0, 0, -5:],
        (1, 3, 64),
    ),
    "all of a scan": (
        lambda x: selective_scan(
            x,
            x.sigmoid(),
            -x[0, :, :4].exp(),
            x[:, :1].expand(-1, 4, -1),
            drawn(1, 4, 200),
            return_last_state=True,
            initial_state=x[:, :, 4:8],
        )[1].flatten(),
        (1, 3, 200),
    ),
}


@pytest.mark.parametrize("name", BATCHED)
def test_many_gradients_go_back_at_once(name):
    function, shape = BATCHED[name]
    jacobian = torch.autograd.functional.jacobian
    found = jacobian(function, drawn(*shape), vectorize=True)
    assert_close(found, jacobian(function, drawn(*shape)), tolerances.SCAN_FLOAT32)


COMPILED = {
    **BATCHED,
    **{
        name: (lambda x, ours=ours, rest=rest: ours(x, *rest), tuple(x.shape))
        for name, (ours, _, (x, *rest)) in SIMPLE.items()
        if name not in WITHIN
    },
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", COMPILED)
def test_what_torch_func_transforms_may_be_compiled(name):
    function, shape = COMPILED[name]
    x, ones = drawn(*shape), torch.ones(shape)

    def loss(x):
        return function(x).tanh().sum()

    def moved(x):
        return torch.func.jvp(loss, (x,), (ones,))[1]

    # Of torch's layer_norm no tangent is compiled.
    for transformed in (torch.func.grad(loss), *([moved] if name != "add_norm" else [])):
        wanted = transformed(x)  # first: a compiler knows no tangents that torch has not loaded
        found = torch.compile(transformed, backend="aot_eager")(x)
        assert_close(found, wanted, tolerances.SCAN_FLOAT32)


@pytest.mark.parametrize("window", [None, 3])
def test_infinite_scores_are_not_a_look_at_later_tokens(window):
    query, key, value = (drawn(1, 1, 40, 8, scale=0.5, seed=seed) for seed in range(3))
    query[0, 0, 0] = key[0, 0, 0].sign() * float("-inf")
    found = causal_attention(query, key, value, 0.35, window)
    assert found[0, 0, 0].isnan().all()
    wanted = causal_reference.causal_attention(query, key, value, 0.35, window)
    assert_close(found, wanted, tolerances.SCAN_FLOAT32)


class Kept:
    """What autograd keeps of a tensor; ``alive`` knows those that it still keeps."""

    alive: ClassVar[weakref.WeakSet] = weakref.WeakSet()

    def __init__(self, part):
        self.part = part
        self.alive.add(self)


@pytest.mark.parametrize("name", ["attention", "scan"])
def test_gradients_of_gradients_keep_nothing_whole_between_both_ways_back(name):
    """Neither (h, l, l) nor (b, d, l, n)."""
    length = 1024
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.part):
        if name == "attention":
            given = [drawn(1, 2, length, 8, seed=seed).requires_grad_() for seed in range(3)]
            made, whole = causal_attention(*given, 0.35), 2 * length**2
        else:
            given = [drawn(1, 100, length, scale=0.1, seed=seed) for seed in (0, 1)]
            given = [part.requires_grad_() for part in (*given, drawn(1, 16, length))]
            u, delta, B = given
            made = selective_scan(u, delta, -torch.ones(100, 16), B, B)
            whole = 100 * length * 16
        found = torch.autograd.grad(made.sum(), given, create_graph=True)
    storages = [kept.part.untyped_storage() for kept in Kept.alive]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    assert len(sizes) > 3
    assert sum(sizes.values()) < 4 * whole / 2  # four bytes a number
    assert all(part.requires_grad for part in found)


HEADS = tuple(drawn(2, 3, 300, 8, scale=0.5, seed=seed) for seed in range(3))


def padding():
    mask = torch.zeros(2, 1, 1, 300)
    mask[1, :, :, 250:] = float("-inf")
    return mask


@pytest.mark.parametrize("masked", [False, True])
def test_attention_has_gradients_of_gradients(masked):
    mask = padding() if masked else None

    def plain(query, key, value):
        wide = None if mask is None else mask.double()
        return attention_reference.attention(query, key, value, 0.35, wide)

    assert_twice(lambda *parts: attention(*parts, 0.35, mask), plain, *HEADS)


def test_one_tensor_as_query_key_and_value_has_each_share_once():
    assert_twice(
        lambda x: attention(x, x, x, 0.35),
        lambda x: attention_reference.attention(x, x, x, 0.35),
        HEADS[0],
    )


@pytest.mark.parametrize("window", [None, 1, 40, 256, 1000])
def test_causal_attention_has_gradients_of_gradients(window):
    assert_twice(
        lambda *parts: causal_attention(*parts, 0.35, window),
        lambda *parts: causal_reference.causal_attention(*parts, 0.35, window),
        *HEADS,
    )


def test_attention_drops_the_same_weights_for_gradients_of_gradients():
    """What is dropped is read off the output, of values that tell the tokens apart."""
    query, key = (drawn(1, 2, 40, 40, scale=0.2, seed=seed) for seed in (0, 1))
    eye = torch.eye(40).expand(1, 2, 40, 40)
    torch.manual_seed(5)
    stays = attention(query, key, eye, 0.35, rate=0.2) != 0
    assert 0.1 < (~stays).float().mean() < 0.3

    def plain(query, key, value):
        weights = torch.softmax(0.35 * query @ key.transpose(2, 3), dim=-1)
        return (weights * stays.double() / 0.8) @ value

    value = drawn(1, 2, 40, 40, seed=2)
    assert_twice(lambda *parts: attention(*parts, 0.35, rate=0.2), plain, query, key, value)


def scanned(scan, u, delta, A, B, C, D, z, bias, before):
    return scan(u, delta, A, B, C, D, z, bias, True, True, before)


SCANNED = (
    drawn(2, 6, 150), drawn(2, 6, 150, scale=0.3, seed=1), -drawn(6, 4).abs(), drawn(2, 4, 150),
    drawn(2, 4, 150, seed=1), drawn(6), drawn(2, 6, 150, seed=2), drawn(6, scale=0.1, seed=1),
    drawn(2, 6, 4),
)  # fmt: skip


@pytest.mark.parametrize("scan", [selective_scan, blocked.selective_scan])
def test_the_scan_has_gradients_of_gradients(scan):
    assert_twice(partial(scanned, scan), partial(scanned, scan_reference.selective_scan), *SCANNED)


@pytest.mark.parametrize("scan", [selective_scan, blocked.selective_scan])
def test_one_tensor_as_both_weights_of_a_scan_has_each_share_once(scan):
    def with_one(scan, u, delta, A, B):
        return scan(u, delta, A, B, B, delta_softplus=True)

    wanted = partial(with_one, scan_reference.selective_scan)
    assert_twice(partial(with_one, scan), wanted, *SCANNED[:4])


def test_documents_in_a_row_have_gradients_of_gradients():
    starts = torch.tensor([0, 60, 150])

    def convolved_and_scanned(convolve, scan, x, weight, delta, A, B, C):
        u = convolve(x, weight, activation="silu", starts=starts)
        return scan(u, delta, A, B, C, delta_softplus=True, starts=starts)

    inputs = (drawn(1, 6, 150), drawn(6, 3), drawn(1, 6, 150, seed=1), SCANNED[2],
              drawn(1, 2, 4, 150), drawn(1, 4, 150))  # fmt: skip
    assert_twice(
        partial(convolved_and_scanned, causal_conv1d, selective_scan),
        partial(convolved_and_scanned, conv_reference.causal_conv1d, scan_reference.selective_scan),
        *inputs,
    )


@pytest.mark.parametrize("activation", [None, "silu"])
def test_the_convolution_has_gradients_of_gradients(activation):
    def convolved(convolve, x, weight, bias, before):
        return convolve(x, weight, bias, activation, before, True)

    assert_twice(
        partial(convolved, causal_conv1d),
        partial(convolved, conv_reference.causal_conv1d),
        *(drawn(2, 6, 50), drawn(6, 4), drawn(6), drawn(2, 6, 3)),
    )


@pytest.mark.parametrize("biased", [False, True])
def test_the_loss_of_a_language_model_has_gradients_of_gradients(biased):
    targets = torch.arange(300) % 7

    def plain(hidden, weight, *bias):
        return F.cross_entropy(F.linear(hidden, weight, *bias), targets)

    def ours(hidden, weight, *bias):
        return linear_cross_entropy(hidden, weight, targets, *bias)

    assert_twice(ours, plain, drawn(300, 5), drawn(7, 5), *([drawn(7)] if biased else []))


def test_only_gradients_that_are_asked_for_are_made():
    x, weight = drawn(3, 4).requires_grad_(), drawn(4).requires_grad_()
    found = twice.gradients(
        lambda x, weight: x * weight, (x, weight), (drawn(3, 4),), (False, True)
    )
    assert found[0] is None
    assert found[1].requires_grad
    assert twice.gradients(torch.sin, (x,), (None,), (True,)) == (None,)
