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
from longdoc.kernels.causal_attention import reference as causal_reference
from longdoc.kernels.dropout import dropout
from longdoc.pretraining.objective import linear_cross_entropy
from tests import tolerances
from tests.assertions import assert_close
from tests.kernels.twofold import assert_twice, drawn


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
