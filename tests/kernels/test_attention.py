"""Attention of every token to every other: each variant against the formula."""

import pytest
import torch

from longdoc.kernels import attention, native_library
from longdoc.kernels.attention import compiled, matrix, reference
from tests import tolerances
from tests.assertions import assert_close
from tests.kernels.against_torch import assert_same, drawn, gradients, needs_native

SCALE = 0.3
VARIANTS = [pytest.param(compiled, marks=needs_native), matrix]
LOWEST = torch.finfo(torch.float32).min


def heads(b, h, length, d, kind=torch.float32):
    """Draw queries, keys and values, laid out as projections leave them."""
    return [drawn(b, length, h, d, seed=place).to(kind).transpose(1, 2) for place in range(3)]


def masks(b, length):
    """Give what may be added to scores: nothing, padding, padding as it is for each query, anything."""
    padding = torch.zeros(b, 1, 1, length)
    padding[-1, :, :, length // 2 + 1 :] = LOWEST
    anything = drawn(b, 1, length, length, seed=7)
    causal = torch.full((length, length), -float("inf")).triu(1)
    return {
        "nothing": None, "padding": padding, "each": padding.repeat(1, 1, length, 1),
        "anything": anything, "causal": causal[None, None],
        "turned": anything.transpose(2, 3), "numbers": anything[:, :, :, :1],
    }  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mask", masks(1, 1))
@pytest.mark.parametrize(
    "shape",
    [(2, 3, 37, 8), (1, 1, 1, 1), (2, 2, 2, 5), (1, 2, 31, 17), (1, 1, 33, 64), (2, 1, 97, 33)],
)
def test_output_and_gradients_are_those_of_the_formula(variant, mask, shape):
    parts, added = heads(*shape), masks(shape[0], shape[2])[mask]

    def ours(*given):
        return variant.attention(*given, SCALE, added)

    def theirs(*given):
        return reference.attention(*given, SCALE, None if added is None else added.double())

    wanted = gradients(theirs, *(part.double() for part in parts))
    assert_same(gradients(ours, *parts), wanted, tolerances.MODEL_FLOAT32)
    if mask != "anything":
        return
    halves = [part.bfloat16() for part in parts]
    wanted = gradients(theirs, *(part.double() for part in halves))
    assert_same(gradients(ours, *halves), wanted, 2 * tolerances.BFLOAT16)


@needs_native
@pytest.mark.parametrize("length", [127, 128, 513])
def test_borders_of_blocks_and_any_strides_change_nothing(length):
    parts = heads(1, 2, length, 32)
    wanted = gradients(
        lambda *p: reference.attention(*p, SCALE), *(part.double() for part in parts)
    )
    plain = [part.contiguous() for part in parts]
    apart = [torch.stack([part, part], dim=-1)[..., 0] for part in parts]
    for given in (parts, plain, apart):
        found = gradients(lambda *p: compiled.attention(*p, SCALE), *given)
        assert_same(found, wanted, tolerances.MODEL_FLOAT32)


@needs_native
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit_and_a_document_is_as_alone(kind):
    parts = heads(3, 2, 45, 16, kind)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.manual_seed(0)
            found.append(gradients(lambda *p: compiled.attention(*p, SCALE, None, 0.2), *parts))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    together = compiled.attention(*parts, SCALE)
    alone = compiled.attention(*(part[1:2] for part in parts), SCALE)
    assert torch.equal(together[1:2], alone)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lowest", [LOWEST, -float("inf")])
def test_a_document_of_padding_alone_gives_no_nan(variant, kind, lowest):
    mask = torch.full((2, 1, 1, 37), lowest)
    parts = heads(2, 3, 37, 8, kind)
    found = gradients(lambda *p: variant.attention(*p, SCALE, mask), *parts)
    assert all(part.isfinite().all() for part in found)
    mean = parts[2].double().mean(dim=2, keepdim=True).expand(parts[2].shape)
    assert_close(found[0].double(), mean, tolerances.BFLOAT16)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_none(variant, kind, number):
    query, key, value = heads(1, 1, 20, 8, kind)
    query = query.clone()
    query[0, 0, 3, 2] = number
    found = variant.attention(query, key, value, SCALE)
    wanted = reference.attention(query, key, value, SCALE)
    assert torch.equal(found.isnan(), wanted.isnan())
    assert found[0, 0, 3].isnan().all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropped_weights_are_zero_and_the_others_larger_on_both_ways(variant):
    length = 64
    query, key, _ = heads(2, 3, length, 16)
    # Values that give the weights themselves.
    value = torch.eye(length).expand(2, 3, length, length).clone().requires_grad_()
    query, key = (torch.nn.functional.pad(part, (0, length - 16)) for part in (query, key))
    torch.manual_seed(0)
    dropped = variant.attention(query, key, value, SCALE, None, 0.25)
    whole = variant.attention(query, key, value, SCALE)
    stays = dropped != 0
    assert (~stays).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert len({tuple(head.flatten().tolist()) for head in stays.flatten(0, 1)}) == 6
    assert_close(dropped[stays], whole[stays] / 0.75, tolerances.MODEL_FLOAT32)
    mask = stays / 0.75

    def ours(*given):
        torch.manual_seed(0)
        return variant.attention(*given, SCALE, None, 0.25)

    def theirs(query, key, value):
        weights = torch.softmax(SCALE * query @ key.transpose(2, 3), dim=-1)
        return (weights * mask.to(weights.dtype)) @ value

    wanted = gradients(theirs, *(part.detach().double() for part in (query, key, value)))
    assert_same(gradients(ours, query, key, value), wanted, tolerances.MODEL_FLOAT32)


@needs_native
def test_what_the_kernel_does_not_serve_goes_another_way():
    parts = heads(1, 2, 5, 4)
    assert compiled.serves(*parts, None)
    of_heads = torch.zeros(1, 2, 5, 5)
    learnt = torch.zeros(1, 1, 5, 5, requires_grad=True)
    for mask in (of_heads, learnt):
        assert not compiled.serves(*parts, mask)
        assert_close(
            attention(*parts, SCALE, mask), attention(*parts, SCALE), tolerances.MODEL_FLOAT32
        )
    doubles = [part.double() for part in parts]
    assert not compiled.serves(*doubles, None)
    wanted = reference.attention(*doubles, SCALE)
    assert_close(attention(*doubles, SCALE), wanted, tolerances.FLOAT64)


@needs_native
def test_the_kernel_runs_where_it_can(monkeypatch):
    ran = []
    for variant in (compiled, matrix):
        name = variant.__name__.split(".")[-1]
        monkeypatch.setattr(variant, "attention", lambda *_, name=name: ran.append(name))
    for kind in (torch.float32, torch.bfloat16, torch.float64):
        attention(*heads(1, 2, 5, 4, kind), SCALE)
    assert ran == ["compiled", "compiled", "matrix"]


@needs_native
@pytest.mark.parametrize("mask", ["nothing", "padding", "anything", "causal"])
@pytest.mark.parametrize("length", [1, 2, 15, 31, 32, 33, 64, 127, 128, 130, 257])
@pytest.mark.parametrize("d", [1, 8, 31, 32, 33, 64, 96])
def test_bfloat16_is_the_formula_around_every_border_of_a_tile(d, length, mask):
    parts = heads(2, 2, length, d, torch.bfloat16)
    added = masks(2, length)[mask]
    wanted = gradients(
        lambda *p: reference.attention(*p, SCALE, None if added is None else added.double()),
        *(part.double() for part in parts),
    )
    found = gradients(lambda *p: compiled.attention(*p, SCALE, added), *parts)
    for one, other in zip(found, wanted, strict=True):
        # Of the largest: gradients of scores are differences, and rounded for the next product.
        assert one.dtype == torch.bfloat16
        size = other.abs().max().clamp(min=1)
        assert_close(one.double() / size, other / size, tolerances.BFLOAT16)


@needs_native
def test_bfloat16_drops_the_weights_that_float32_drops():
    parts = heads(2, 3, 70, 16, torch.bfloat16)

    def run(*given):
        torch.manual_seed(3)
        return compiled.attention(*given, SCALE, None, 0.25)

    wanted = gradients(run, *(part.float() for part in parts))
    assert_same(gradients(run, *parts), wanted, 2 * tolerances.BFLOAT16)


@needs_native
def test_every_level_of_this_processor_gives_the_same_in_bfloat16(monkeypatch):
    parts = heads(2, 2, 70, 33, torch.bfloat16)
    wanted = gradients(lambda *p: compiled.attention(*p, SCALE), *parts)
    for level in range(native_library.level() + 1):
        monkeypatch.setattr(native_library, "level", lambda level=level: level)
        found = gradients(lambda *p: compiled.attention(*p, SCALE), *parts)
        assert_same(found, wanted, 2 * tolerances.BFLOAT16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v, m: (q[0], k, v, m), r"query must have shape \(b, h, l, d\)"),
        (lambda q, k, v, m: (q[:, :, :0], k, v, m), r"none of them 0; got \(2, 3, 0, 4\)"),
        (lambda q, k, v, m: (q, k[:, :, :2], v, m), r"key must have shape \(2, 3, 5, 4\)"),
        (lambda q, k, v, m: (q, k, v[..., :2], m), r"value must have shape \(2, 3, 5, 4\)"),
        (lambda q, k, v, m: (q, k, v, m[..., :2]), r"mask must broadcast to \(2, 3, 5, 5\)"),
        (lambda q, k, v, m: (q, k, v, m[0]), r"mask must broadcast to \(2, 3, 5, 5\)"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    given = change(*heads(2, 3, 5, 4), torch.zeros(2, 1, 5, 5))
    with pytest.raises(ValueError, match=message):
        attention(*given[:3], SCALE, given[3])
