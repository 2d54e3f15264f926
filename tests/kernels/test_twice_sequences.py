"""Gradients of gradients through what mixes tokens: attention, scan and convolution."""

from functools import partial

import pytest
import torch

from longdoc.kernels import attention, causal_attention, causal_conv1d, selective_scan
from longdoc.kernels.attention import reference as attention_reference
from longdoc.kernels.causal_attention import reference as causal_reference
from longdoc.kernels.causal_conv1d import reference as conv_reference
from longdoc.kernels.selective_scan import blocked
from longdoc.kernels.selective_scan import reference as scan_reference
from tests.kernels.twofold import assert_twice, drawn

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
