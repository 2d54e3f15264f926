"""What kernels would read as something else, or beyond its end, is refused in a sentence."""

import re
import threading

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional as F  # noqa: N812

from longdoc.kernels import (
    add_norm,
    causal_attention,
    causal_conv1d,
    dropout,
    gelu,
    linear,
    low_rank,
    rms_norm,
    selective_scan,
)
from longdoc.kernels.bfloat16 import compiled as products
from longdoc.kernels.causal_conv1d import compiled as conv_operators
from longdoc.kernels.rms_norm import compiled as norm_operators
from longdoc.kernels.selective_scan import compiled as scan_operators
from tests import tolerances
from tests.assertions import assert_close
from tests.kernels.against_torch import drawn, needs_native

pytestmark = needs_native
ones = torch.ones


def convolve(**others):
    given = {"x": ones(2, 70, 20), "weight": ones(4, 20), "bias": None, "initial": None,
             "starts": None, **others}  # fmt: skip
    return conv_operators.conv_forward(*given.values(), False)


def scan(shape=(2, 70, 20), n=4, groups=1, kind=torch.float32, **others):
    b, length, d = shape
    wide = (b, length, groups, n)
    given = {"u": ones(shape, dtype=kind), "delta": ones(shape, dtype=kind), "A": -ones(d, n),
             "B": ones(wide), "C": ones(wide), "D": None, "z": None, "bias": None, "initial": None,
             "starts": None, **others}  # fmt: skip
    return scan_operators.scan_forward(*given.values(), True, True)


def scan_back(**others):
    shape, wide = (2, 70, 20), (2, 70, 1, 4)
    states = scan()[2]
    given = {"dout": ones(shape), "dlast": None, "u": ones(shape), "delta": ones(shape),
             "A": -ones(20, 4), "B": ones(wide), "C": ones(wide), "D": None, "z": None,
             "bias": None, "initial": None, "starts": None, "states": states, **others}  # fmt: skip
    return scan_operators.scan_backward(*given.values(), True)


def norm_back(dout=(5, 20), x=(5, 20), weight=(20,), scale=5):
    return norm_operators.norm_backward(ones(dout), ones(x), ones(weight), ones(scale))


REFUSED = {
    "conv: a type": (
        lambda: convolve(x=ones(2, 70, 20).half()),
        "x must be torch.float32; got torch.float16",
    ),
    "conv: a bias's type": (
        lambda: convolve(bias=ones(20).double()),
        "bias must be torch.float32; got torch.float64",
    ),
    "conv: documents beyond the end": (
        lambda: convolve(x=ones(1, 70, 20), starts=torch.tensor([0, 10**7])),
        "starts must rise from 0 to 70, the tokens; got [0, 10000000]",
    ),
    "conv: five columns": (
        lambda: convolve(weight=ones(5, 20)),
        "weight must have 2 to 4 rows; got 5",
    ),
    "conv: columns lie apart": (
        lambda: convolve(weight=ones(20, 4).t()),
        "weight must be torch.float32 and contiguous; got torch.float32",
    ),
    "conv: a short bias": (
        lambda: convolve(bias=ones(19)),
        "bias must have shape (20,); got (19,)",
    ),
    "conv: states of one document": (
        lambda: convolve(initial=ones(1, 3, 20)),
        "initial must have shape (2, 3, 20); got (1, 3, 20)",
    ),
    "conv: a short gradient": (
        lambda: conv_operators.conv_backward(
            ones(2, 69, 20), ones(2, 70, 20), ones(4, 20), None, None, None, False
        ),
        "dout must have the shape of x, (2, 70, 20); got (2, 69, 20)",
    ),
    "scan: a type": (
        lambda: scan(kind=torch.float16),
        "u must be torch.float32; got torch.float16",
    ),
    "scan: types that differ": (
        lambda: scan(delta=ones(2, 70, 20).bfloat16()),
        "delta must be torch.float32; got torch.bfloat16",
    ),
    "scan: short steps": (
        lambda: scan(delta=ones(2, 69, 20)),
        "delta must have shape (2, 70, 20); got (2, 69, 20)",
    ),
    "scan: too many states": (
        lambda: scan(n=257),
        "states must be 1 to 256, and groups divide 20 channels; got 257, 1",
    ),
    "scan: groups that do not part channels": (
        lambda: scan(groups=3),
        "states must be 1 to 256, and groups divide 20 channels; got 4, 3",
    ),
    "scan: a short gate": (
        lambda: scan(z=ones(2, 70, 19)),
        "z must have shape (2, 70, 20); got (2, 70, 19)",
    ),
    "scan: first states of one document": (
        lambda: scan(initial=ones(1, 20, 4)),
        "initial must have shape (2, 20, 4); got (1, 20, 4)",
    ),
    "scan: kept states of another type": (
        lambda: scan_back(states=scan()[2].bfloat16()),
        "states must be torch.float32; got torch.bfloat16",
    ),
    "scan: a short gradient": (
        lambda: scan_back(dout=ones(2, 69, 20)),
        "dout must have shape (2, 70, 20), dlast (2, 20, 4); got [(2, 69, 20)]",
    ),
    "scan: a short gradient of states": (
        lambda: scan_back(dlast=ones(1, 20, 4)),
        "dout must have shape (2, 70, 20), dlast (2, 20, 4); got [(2, 70, 20), (1, 20, 4)]",
    ),
    "norm: a short gradient": (
        lambda: norm_back(dout=(2, 20)),
        "dout must have tokens times d = 100 elements; got shape (2, 20)",
    ),
    "norm: factors of other tokens": (
        lambda: norm_back(scale=4),
        "scale must have tokens = 5 elements; got shape (4,)",
    ),
    "low rank: other tokens": (
        lambda: low_rank.factor_gradients(
            ones(200, 20), ones(100, 24), ones(4, 20), ones(24, 4), 1.0
        ),
        "dy must have tokens times outputs = 4800 elements; got shape (100, 24)",
    ),
    "low rank: a short factor": (
        lambda: low_rank.factor_gradients(
            ones(200, 20), ones(200, 24), ones(4, 19), ones(24, 4), 1.0
        ),
        "a must have rank times inputs = 80 elements; got shape (4, 19)",
    ),
    "products: float32": (
        lambda: products.multiply(ones(12, 3), ones(3, 2)),
        "a must be torch.bfloat16; got torch.float32",
    ),
    "products: float16": (
        lambda: products.multiply(ones(40, 30).half(), ones(30, 20).half()),
        "a must be torch.bfloat16; got torch.float16",
    ),
    "products: other inner sizes": (
        lambda: products.multiply(ones(40, 30).bfloat16(), ones(29, 20).bfloat16()),
        "b must have k times n = 600 elements; got shape (29, 20)",
    ),
    "dropout: less than none": (
        lambda: dropout.drop(ones(8), -0.5),
        "rate must be in 0..1, 1 excluded; got -0.5",
    ),
    "dropout: no number": (
        lambda: dropout.dropout(ones(8), float("nan"), 0),
        "rate must be in 0..1, 1 excluded; got nan",
    ),
    "sums: less than none": (
        lambda: add_norm(ones(2, 8), ones(2, 8), ones(8), ones(8), 1e-5, -0.5),
        "rate must be in 0..1, 1 excluded; got -0.5",
    ),
    "low rank: all of it": (
        lambda: low_rank.low_rank_linear(
            ones(2, 20), ones(24, 20), None, ones(4, 20), ones(24, 4), 1.0, 1.0
        ),
        "rate must be in 0..1, 1 excluded; got 1.0",
    ),
    "documents: a list": (
        lambda: causal_attention(*[ones(1, 2, 9, 8)] * 3, 1.0, starts=[0, 9]),
        "starts must be a tensor of int64; got list",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_kernel_would_read_beyond_is_refused(name):
    refused, message = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        refused()


FREED = {
    "gelu": gelu,
    "dropout": lambda x: dropout.drop(x, 0.5),
    "a sum": lambda x: add_norm(x, ones(4, 8), ones(8), ones(8), 1e-5),
}


@pytest.mark.parametrize("name", FREED)
def test_a_tensor_whose_memory_is_gone_is_refused(name):
    x = ones(4, 8)
    x.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="holds no numbers itself; give a plain tensor"):
        FREED[name](x)


@pytest.mark.parametrize(
    ("x", "weight"),
    [((200, 40), (0, 40)), ((3, 200, 0), (24, 0)), ((200, 0), (24, 0)), ((200, 40), (40,))],
)
def test_a_product_of_nothing_or_with_a_row_is_that_of_torch(x, weight, library):
    given = [drawn(*shape).requires_grad_() for shape in (x, weight)]
    found, wanted = linear.linear(*given), F.linear(*given)
    assert_close(found, wanted, tolerances.SCAN_FLOAT32)
    pairs = zip(*(torch.autograd.grad(y.sum(), given) for y in (found, wanted)), strict=True)
    assert all(torch.allclose(one, other) for one, other in pairs)


class Attention(torch.nn.Module):
    def forward(self, x):
        return x + causal_attention(x, x, x, 0.3)


class Scan(torch.nn.Module):
    def forward(self, x):
        return x + selective_scan(x, x.sigmoid(), -ones(x.shape[1], 2), x[:, :2], x[:, :2])


class Convolution(torch.nn.Module):
    def forward(self, x):
        return x + causal_conv1d(x, ones(x.shape[1], 3))


class Norm(torch.nn.Module):
    def forward(self, x):
        return x + rms_norm(x, ones(x.shape[-1]), 1e-5)


OPERATORS = [
    (Attention, (1, 2, 30, 8)),
    (Scan, (1, 4, 30)),
    (Convolution, (1, 4, 30)),
    (Norm, (3, 8)),
]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("module", "shape"), OPERATORS)
def test_an_exported_graph_has_no_tangents_and_says_so(module, shape):
    x = drawn(*shape)
    exported = torch.export.export(module(), (x,)).module()
    with pytest.raises(RuntimeError, match="operators has no tangents"):
        torch.func.jvp(exported, (x,), (x,))
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="operators has no tangents"):
        exported(forward_ad.make_dual(x, x))
    assert_close(exported(x), module()(x), tolerances.SCAN_FLOAT32)
    wanted = torch.func.jvp(module().double(), (x.double(),), (x.double(),))[1]
    assert_close(torch.func.jvp(module(), (x,), (x,))[1].double(), wanted, tolerances.SCAN_FLOAT32)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("module", "shape"), OPERATORS)
def test_many_gradients_go_back_at_once_through_an_exported_graph(module, shape):
    x = drawn(*shape).requires_grad_()
    exported = torch.export.export(module(), (x,)).module()
    above = drawn(5, *shape)
    found, wanted = (
        torch.autograd.grad(each(x), x, above, is_grads_batched=True)[0]
        for each in (exported, module())
    )
    assert_close(found, wanted, tolerances.SCAN_FLOAT32)


def test_tangents_of_another_thread_are_none_of_ours():
    within, done = threading.Event(), threading.Event()

    def elsewhere():
        with forward_ad.dual_level():
            within.set()
            done.wait(30)

    other = threading.Thread(target=elsewhere)
    other.start()
    assert within.wait(30)
    try:
        # What is chosen before the other thread begins runs to its end.
        scan_operators.selective_scan(
            drawn(1, 4, 30), drawn(1, 4, 30), -ones(4, 2), ones(1, 2, 30), ones(1, 2, 30)
        )
        conv_operators.causal_conv1d(drawn(1, 4, 30), ones(4, 3))
        norm_operators.rms_norm(drawn(3, 8), ones(8), 1e-5)
    finally:
        done.set()
        other.join()


def test_a_scan_of_no_states_is_its_skip_connection():
    u, delta, D = drawn(2, 4, 9), drawn(2, 4, 9, seed=1), drawn(4, seed=2)
    nothing = torch.zeros(2, 0, 9)
    found = selective_scan(u, delta, torch.zeros(4, 0), nothing, nothing, D)
    assert_close(found, u * D[:, None], tolerances.SCAN_FLOAT32)
