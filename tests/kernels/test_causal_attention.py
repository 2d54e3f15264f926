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


def padded(length):
    """Say which tokens of three documents are real: holes, padding before one, behind one."""
    real = torch.ones(3, length, dtype=torch.bool)
    real[0, ::3] = False
    real[1, : length // 2] = False
    real[2, length // 2 :] = False
    return real


@pytest.mark.parametrize("variant", [compiled, blocked])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 2, 33, 300])
@pytest.mark.parametrize("window", [None, 1, 20])
def test_tokens_that_are_not_real_are_not_seen(variant, kind, length, window):
    parts, real = heads(length, 8, kind, b=3), padded(length)

    def through(attend):
        return lambda *p: attend(*p, SCALE, window, real=real)

    wanted = gradients(through(reference.causal_attention), *(part.double() for part in parts))
    found = gradients(through(variant.causal_attention), *parts)
    tolerance = tolerances.SCAN_FLOAT32 if kind == torch.float32 else tolerances.BFLOAT16
    for one, other in zip(found, wanted, strict=True):
        size = other.abs().max().clamp(min=1)
        assert one.dtype == kind
        assert_close(one.double() / size, other / size, tolerance)


@pytest.mark.parametrize("window", [None, 20])
def test_what_is_not_real_changes_nothing_that_is(window):
    parts, real = heads(150, 16, b=3), padded(150)
    found = causal_attention(*parts, SCALE, window, real=real)
    for part in parts[1:]:
        part.masked_fill_(~real[:, None, :, None], 1e3)
    again = causal_attention(*parts, SCALE, window, real=real)
    sees_one = torch.stack([real[:, max(0, t + 1 - (window or 150)) : t + 1].any(1)
                            for t in range(150)], 1)  # fmt: skip
    assert torch.equal(found.mT.transpose(1, 3)[sees_one], again.mT.transpose(1, 3)[sees_one])
    assert not torch.equal(found, again)


def test_what_is_real_must_be_said_of_every_token():
    parts = heads(40, 8, b=3)
    for wrong in (padded(39), padded(40)[:1], padded(40).long()):
        with pytest.raises(ValueError, match=r"real must be of true and false, of shape \(3, 40\)"):
            causal_attention(*parts, SCALE, real=wrong)
    one = [part[:1] for part in parts]
    with pytest.raises(ValueError, match="and starts"):
        causal_attention(*one, SCALE, starts=torch.tensor([0, 40]), real=padded(40)[:1])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
def test_the_operators_pass_torchs_own_checks(kind, masked):
    parts = [drawn(3, 40, 2, 8, seed=place).to(kind) for place in range(3)]
    real = padded(40) if masked else None
    learnt = [part.requires_grad_() for part in parts]
    torch.library.opcheck(compiled.attend, (*learnt, real, SCALE, 16))
    parts = [part.detach() for part in parts]
    out, kept = compiled.attend(*parts, real, SCALE, 16)
    torch.library.opcheck(compiled.go_back, (out, *parts, real, kept, SCALE, 16))


def test_the_operators_refuse_what_the_kernel_would_read_beyond():
    query, key, value = (drawn(2, 40, 3, 8, seed=place) for place in range(3))
    out, kept = compiled.attend(query, key, value, None, SCALE, 16)
    with pytest.raises(ValueError, match="must have the same type and shape"):
        compiled.attend(query, key[:, 1:], value, None, SCALE, 16)
    with pytest.raises(ValueError, match="must have the same type and shape"):
        compiled.attend(query, key, value.bfloat16(), None, SCALE, 16)
    with pytest.raises(ValueError, match=r"window be at least 1; got .* 0"):
        compiled.attend(query, key, value, None, SCALE, 0)
    with pytest.raises(ValueError, match="query must be float32 or bfloat16"):
        compiled.attend(query.double(), key.double(), value.double(), None, SCALE, 16)
    for wrong in (torch.ones(2, 39, dtype=torch.bool), torch.ones(2, 40)):
        with pytest.raises(ValueError, match="real must have shape"):
            compiled.attend(query, key, value, wrong, SCALE, 16)
    for wrong in (kept[:, :, 1:], kept.double(), kept.mT.contiguous().mT):
        with pytest.raises(ValueError, match="kept must be contiguous, float32"):
            compiled.go_back(out, query, key, value, None, wrong, SCALE, 16)
    for wrong in (out[:, 1:], out.bfloat16()):
        with pytest.raises(ValueError, match="dout must be as query"):
            compiled.go_back(wrong, query, key, value, None, kept, SCALE, 16)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 20, 100])
@pytest.mark.parametrize("masked", [False, True])
def test_a_compiler_sees_it_whole_in_both_directions(kind, window, masked):
    parts, real = heads(50, 8, kind, b=3), padded(50) if masked else None

    def twofold(*parts):
        return causal_attention(*parts, SCALE, window, real=real) * 2

    torch.compiler.reset()  # of one function it keeps few forms
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
