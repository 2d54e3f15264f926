"""The benchmark measures what it says, in processes of their own."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from longdoc.benchmark import limit, page, pieces, suite, training
from longdoc.benchmark.cases import Case
from longdoc.benchmark.limit import Rates
from longdoc.benchmark.suite import Measured
from longdoc.benchmark.worker import Worker, how_it_ended
from longdoc.errors import RunError
from longdoc.kernels import native_library

ONE = 2 * (768 * 3072 + 1536 * 80 + 48 * 1536 + 1536 * 768)
"""Operations of a layer's products for one token."""
OTHERS = ("selective_scan", "causal_conv1d", "rms_norm", "add")


def rates_of(single):
    rates = Rates()
    rates.best[False] = single
    return rates


def test_the_limit_counts_the_products_of_a_layer():
    assert limit.operations(24, 1000) == 24 * 1000 * ONE
    rates = rates_of(1e12)
    assert limit.step(rates, False, 24, 1000).seconds() == pytest.approx(0.048 * ONE / 1e6)
    exponentials = 24 * 1000 * 1536 * 16 / limit.EXPONENTIALS
    assert limit.forward(rates, False, 24, 1000).seconds() == pytest.approx(
        0.024 * ONE / 1e6 + exponentials
    )


def test_the_limit_follows_the_best_rate_of_a_run(monkeypatch):
    rates, seen = Rates(), iter([2e12, 4e12, 1e12])
    monkeypatch.setattr(limit, "best_rate", lambda bfloat16, rounds: next(seen))
    measured = Measured("a layer", Case(tokens=(1000,)), (ONE * 1e-9,), 1.0,
                        limit=limit.step(rates, False, 1, 1000))  # fmt: skip
    assert measured.share() == float("inf")
    for share in (1.0, 0.5, 0.5):
        rates.look(False)
        assert measured.share() == pytest.approx(share)
    assert measured.as_json()["share"] == pytest.approx(0.5)
    assert rates.words() == "products reached 4000 GFLOP/s in float32 at best"


def test_a_rate_is_that_of_the_fastest_product():
    assert limit.best_rate(bfloat16=False, rounds=1) > 1e9


def test_the_pieces_are_those_of_all_layers(monkeypatch):
    found = suite.pieces_of(Case(tokens=(64,), layers=1))
    assert set(found) == {*pieces.PROJECTIONS, *OTHERS}
    assert all(seconds > 0 for seconds in found.values())
    step = pieces.step(True, 64)
    assert {p.name for p in step} == set(found)
    assert all(p.backward > 0 for p in step if p.name != "add")
    monkeypatch.setattr(pieces, "_median", lambda run: 2.0)
    found = suite.pieces_of(Case(tokens=(5120,), layers=3))
    assert found["in_proj"] == found["causal_conv1d"] == 3 * 2.0 * 5120 / 2048
    assert found["rms_norm"] == found["add"] == 3 * 2.0  # around the mixer, at once
    found = suite.pieces_of(Case(what="step", tokens=(64,), layers=3))
    assert (found["in_proj"], found["x_proj"], found["add"]) == (3 * 4.0, 3 * 6.0, 3 * 2.0)


@pytest.mark.parametrize("kind", [{"what": "checkpointing"}, {"dropout": 0.1}, {"tokens": (8, 4)}])
def test_of_other_passes_no_pieces_are_given(kind):
    assert suite.pieces_of(Case(**{"what": "step", "tokens": (8,), **kind})) == {}


def test_there_are_pieces_without_compiled_kernels():
    command = "from longdoc.benchmark import pieces; print(len(pieces.forward(False, 64, 32)))"
    environment = {**os.environ, native_library.SWITCH: "0"}
    done = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == "8"


def test_a_step_does_some_pieces_again():
    assert pieces.Piece("x_proj", 2.0, 1.0, 1.0, backward=3.0).step() == 7.0
    assert pieces.Piece("in_proj", 2.0, 1.0, 1.0, backward=3.0).step() == 5.0


@pytest.mark.slow
@pytest.mark.parametrize("system", ["longdoc", "transformers"])
def test_cases_take_turns_in_processes_of_their_own(system):
    cases = [Case(system=system, what=what, tokens=(64,), layers=1) for what in ("forward", "step")]
    (first, peak), (second, _) = suite.take_turns(cases, 2)
    assert len(first) == len(second) == 2
    assert all(seconds > 0 for seconds in (*first, *second))
    assert 0.2 < peak < 5


@pytest.mark.slow
@pytest.mark.parametrize("installed", [True, False])
def test_what_is_left_out_is_said(installed, monkeypatch):
    monkeypatch.setattr(suite, "can_run", lambda system: installed or system != "mambapy")
    said = {part: suite.left_out(part) for part in ("all", "comparisons", "models", "training")}
    assert said["models"] == said["training"] == ""
    for part in ("all", "comparisons"):
        expected = "" if installed else "mambapy is not installed, so its rows are left out: pip"
        assert said[part].startswith(expected)
        assert bool(said[part]) != installed


def test_a_case_that_cannot_run_says_why():
    with pytest.raises(RuntimeError, match="ended with code 1"):
        Worker(Case(tokens=(-1,), layers=1))


@pytest.mark.slow
def test_a_case_that_is_killed_says_so():
    worker = Worker(Case(tokens=(16,), layers=1))
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(RunError, match=r"ended by SIGKILL; the machine may have no memory left"):
        worker.run()


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (1, "no such case", "it ended with code 1: no such case"),
        (-6, "bad_alloc", "it was ended by SIGABRT: bad_alloc"),
        (-9, "", "it was ended by SIGKILL; the machine may have no memory left"),
        (-35, "", "it was ended by signal 35"),
    ],
)
def test_how_a_process_ended_is_said(code, words, said):
    assert how_it_ended("it", code, words) == said


def test_a_line_of_the_table_has_what_was_measured():
    case = Case(tokens=(2048,), bfloat16=True)
    bound = limit.Limit(rates_of(1e9), False, 1.8e9)
    pieces = {"in_proj": 1.5, "selective_scan": 0.3}
    measured = Measured("mamba-130m, 24 layers", case, (2.0, 1.0, 4.0), 1.25, limit=bound)
    line = page.row(replace(measured, pieces=pieces))
    assert line[2:6] == ("forward bf16", "2,048", "2.00", "977")
    assert line[7:10] == ("90%", "1.80 s, 100%", "1.25")
    assert page.row(measured)[8] == ""
    assert page.markdown([measured]).count("\n") == 2
    assert page.table([measured]).count("\n") == 1


@pytest.mark.slow
def test_a_whole_training_is_set_beside_its_bare_passes():
    found = training.measure(64, 1, 6)
    assert found.bare > 0
    assert 0 < found.tokenizing < found.step
    assert training.Overhead(2.0, 2.1, 0.06).share() == pytest.approx(0.08)


def test_a_measurement_that_fails_says_why():
    with pytest.raises(RuntimeError, match="ended with code 1"):
        training.measure(64, -1, 6)
