"""Attention to earlier tokens, all or a window of them: the compiled variant against the formula."""

import pytest
import torch

from longdoc.kernels import causal_attention, native_library
from longdoc.kernels.causal_attention import blocked, compiled, reference
from tests import tolerances
from tests.assertions import assert_close
from tests.kernels.against_torch import assert_same, drawn, gradients, needs_native

pytestmark = needs_native
SCALE = 0.5
LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 64, 97, 130, 257]


def heads(length, d, kind=torch.float32, b=1, h=2):
    return [drawn(b, length, h, d, seed=place).to(kind).transpose(1, 2) for place in range(3)]


def formula(parts, window, starts=None):
    return gradients(
        lambda *p: reference.causal_attention(*p, SCALE, window, starts),
        *(part.double() for part in parts),
    )


def ours(parts, window, starts=None):
    return gradients(lambda *p: compiled.causal_attention(*p, SCALE, window, starts), *parts)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("window", [None, 1, 2, 31, 32, 33, 64, 100, 1000])
def test_output_and_gradients_are_those_of_the_formula(length, window):
    for b, h, d in ((2, 3, 8), (1, 1, 33)):
        parts = heads(length, d, b=b, h=h)
        assert_same(ours(parts, window), formula(parts, window), tolerances.SCAN_FLOAT32)
        halves = [part.bfloat16() for part in parts]
        for found, wanted in zip(ours(halves, window), formula(halves, window), strict=True):
            # Of the largest: gradients of scores are differences, rounded for the next product.
            size = wanted.abs().max().clamp(min=1)
            assert found.dtype == torch.bfloat16
            assert_close(found.double() / size, wanted / size, tolerances.BFLOAT16)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 32, 40])
def test_a_token_knows_nothing_of_later_ones_and_of_those_before_its_window(kind, window):
    parts = heads(150, 16, kind)
    changed = [part.clone() for part in parts]
    for part in changed:
        part[:, :, 100:] = 1 - part[:, :, 100:]
    before, after = (compiled.causal_attention(*given, SCALE, window) for given in (parts, changed))
    assert torch.equal(before[:, :, :100], after[:, :, :100])
    assert not torch.isclose(before[:, :, 100:], after[:, :, 100:]).all(dim=-1).any()
    if window:
        for part in changed[1:]:
            part[:, :, 100:] = parts[1][:, :, 100:]
            part[:, :, :60] = 1e3
        far = compiled.causal_attention(parts[0], *changed[1:], SCALE, window)
        for part in changed[1:]:
            part[:, :, :60] = -1e3
        other = compiled.causal_attention(parts[0], *changed[1:], SCALE, window)
        assert torch.equal(far[:, :, 60 + window - 1 :], other[:, :, 60 + window - 1 :])
        assert not torch.equal(far[:, :, 60 + window - 2], other[:, :, 60 + window - 2])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_documents_one_after_the_other_are_as_alone(kind):
    starts = torch.tensor([0, 1, 40, 41, 130])
    parts = heads(130, 16, kind)
    found = compiled.causal_attention(*parts, SCALE, 20, starts)
    for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        alone = compiled.causal_attention(*(p[:, :, first:last] for p in parts), SCALE, 20)
        assert torch.equal(found[:, :, first:last], alone)
    tolerance = tolerances.SCAN_FLOAT32 if kind == torch.float32 else tolerances.BFLOAT16
    assert_same(ours(parts, 20, starts), formula(parts, 20, starts), 2 * tolerance)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_every_level_and_any_number_of_threads_give_the_same(kind, monkeypatch):
    parts = heads(150, 24, kind, b=2)
    wanted = ours(parts, 70)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = ours(parts, 70)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(alone, wanted, strict=True))
    tolerance = tolerances.SCAN_FLOAT32 if kind == torch.float32 else 2 * tolerances.BFLOAT16
    for level in range(native_library.level() + 1):
        monkeypatch.setattr(native_library, "level", lambda level=level: level)
        assert_same(ours(parts, 70), wanted, tolerance)


def test_it_runs_where_it_can_and_the_blocked_one_elsewhere(monkeypatch):
    parts = heads(40, 8)
    ran = []
    for variant in (compiled, blocked):
        name = variant.__name__.split(".")[-1]
        monkeypatch.setattr(variant, "causal_attention", lambda *_, name=name: ran.append(name))
    causal_attention(*parts, SCALE)
    causal_attention(*(part.bfloat16() for part in parts), SCALE, 8)
    causal_attention(*(part.double() for part in parts), SCALE, 8)
    assert ran == ["compiled", "compiled", "blocked"]


def test_memory_grows_with_the_tokens_and_not_with_their_square():
    small, large = (_most_held(heads(length, 8, h=1)) for length in (2048, 16_384))
    assert large < 12 * small


def _most_held(parts):
    # What torch allocates, of which the matrix would be the most; not the kernel's own workspace.
    with torch.profiler.profile(profile_memory=True) as profile:
        ours(parts, None)
    return sum(max(0, event.self_cpu_memory_usage) for event in profile.events())


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_operators_pass_torchs_own_checks(kind):
    parts = [drawn(2, 40, 3, 8, seed=place).to(kind) for place in range(3)]
    learnt = [part.requires_grad_() for part in parts]
    torch.library.opcheck(compiled.attend, (*learnt, SCALE, 16))
    parts = [part.detach() for part in parts]
    out, kept = compiled.attend(*parts, SCALE, 16)
    torch.library.opcheck(compiled.go_back, (out, *parts, kept, SCALE, 16))


def test_the_operators_refuse_what_the_kernel_would_read_beyond():
    query, key, value = (drawn(2, 40, 3, 8, seed=place) for place in range(3))
    out, kept = compiled.attend(query, key, value, SCALE, 16)
    with pytest.raises(ValueError, match="must have the same type and shape"):
        compiled.attend(query, key[:, 1:], value, SCALE, 16)
    with pytest.raises(ValueError, match="must have the same type and shape"):
        compiled.attend(query, key, value.bfloat16(), SCALE, 16)
    with pytest.raises(ValueError, match=r"window be at least 1; got .* 0"):
        compiled.attend(query, key, value, SCALE, 0)
    with pytest.raises(ValueError, match="query must be float32 or bfloat16"):
        compiled.attend(query.double(), key.double(), value.double(), SCALE, 16)
    for wrong in (kept[:, :, 1:], kept.double(), kept.mT.contiguous().mT):
        with pytest.raises(ValueError, match="kept must be contiguous, float32"):
            compiled.go_back(out, query, key, value, wrong, SCALE, 16)
    for wrong in (out[:, 1:], out.bfloat16()):
        with pytest.raises(ValueError, match="dout must be as query"):
            compiled.go_back(wrong, query, key, value, kept, SCALE, 16)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 20, 100])
def test_a_compiler_sees_it_whole_in_both_directions(kind, window):
    parts = heads(50, 8, kind)

    def twofold(*parts):
        return causal_attention(*parts, SCALE, window) * 2

    traced = torch.compile(twofold, backend="aot_eager", fullgraph=True)
    found, wanted = gradients(traced, *parts), gradients(twofold, *parts)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


class Attention(torch.nn.Module):
    def forward(self, *parts):
        return causal_attention(*parts, SCALE, 20)


def test_it_is_exported_for_any_length():
    length = torch.export.Dim("length", min=2)
    documents = torch.export.Dim("documents")
    every = {0: documents, 2: length}
    program = torch.export.export(
        Attention(), tuple(heads(50, 8, b=2)), dynamic_shapes={"parts": (every, every, every)}
    )
    assert "longdoc.causal_attention_forward" in str(program.graph)
    for size, b in ((2, 1), (19, 2), (20, 2), (21, 3), (300, 2)):
        parts = heads(size, 8, b=b)
        found, wanted = gradients(program.module(), *parts), gradients(Attention(), *parts)
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
