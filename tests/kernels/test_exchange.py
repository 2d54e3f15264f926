"""What the kernels of a layer leave for each other: no scan twice, nothing kept too long."""

import weakref

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from longdoc.kernels import native_library
from longdoc.kernels.causal_conv1d import compiled as compiled_convolution
from longdoc.kernels.exchange import Exchange, halves
from longdoc.kernels.selective_scan import compiled
from tests.kernels.test_selective_scan import inputs, needs_native


@needs_native
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_recomputation_takes_the_states_and_does_not_scan_again(monkeypatch, kind):
    given = {name: value.to(kind) for name, value in inputs(b=1, d=32, l=300, n=16).items()}
    calls = []
    plain = native_library.call
    monkeypatch.setattr(native_library, "call", lambda f, a: (calls.append(f), plain(f, a)))

    def mix(both, exchange):
        u, z = (half.mT for half in halves(both, exchange))
        u = compiled_convolution.causal_conv1d(u, weight, None, "silu", exchange=exchange)
        now = {**given, "u": u, "z": z, "exchange": exchange}
        return compiled.selective_scan(**now, delta_softplus=True)

    def plainly(both):
        u, z = (half.mT for half in both.chunk(2, dim=2))
        u = compiled_convolution.causal_conv1d(u, weight, None, "silu")
        return compiled.selective_scan(**{**given, "u": u, "z": z}, delta_softplus=True)

    weight = torch.randn(32, 4, generator=torch.Generator().manual_seed(0)).to(kind)
    both = torch.cat([given["u"], given["z"]], dim=1).mT.contiguous().requires_grad_()
    wanted_y = plainly(both)
    (wanted,) = torch.autograd.grad(wanted_y.float().square().sum(), both)
    calls.clear()
    y = checkpoint(mix, both, Exchange(), use_reentrant=False)
    (found,) = torch.autograd.grad(y.float().square().sum(), both)
    assert torch.equal(y, wanted_y)
    assert torch.equal(found, wanted)
    assert calls.count("longdoc_scan_forward") == 1
    assert calls.count("longdoc_conv_forward") == 2


@needs_native
def test_what_a_recomputation_needs_goes_with_the_backward_pass():
    given = {name: value.float() for name, value in inputs(b=1, d=32, l=300, n=16).items()}
    exchange = Exchange()
    kept = weakref.ref(exchange)
    both = torch.cat([given["u"], given["z"]], dim=1).mT.contiguous().requires_grad_()

    def mix(both, exchange):
        u, z = (half.mT for half in halves(both, exchange))
        now = {**given, "u": u, "z": z, "exchange": exchange}
        return compiled.selective_scan(**now, delta_softplus=True)

    y = checkpoint(mix, both, exchange, use_reentrant=False)
    del exchange
    loss = y.square().sum()
    assert kept() is not None
    loss.backward()
    assert kept() is None
