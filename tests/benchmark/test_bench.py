"""The benchmark measures what it says, in processes of their own."""

import pytest

from longdoc.benchmark import limit, page, suite, training
from longdoc.benchmark.cases import Case
from longdoc.benchmark.suite import Measured
from longdoc.benchmark.worker import Worker


def test_the_limit_counts_the_products_of_a_layer():
    one = 2 * (768 * 3072 + 1536 * 80 + 48 * 1536 + 1536 * 768)
    assert limit.operations(24, 1000) == 24 * 1000 * one
    assert limit.step_seconds(1e12, 24, 1000) == pytest.approx(2 * 24 * 1000 * one / 1e12)
    exponentials = 24 * 1000 * 1536 * 16 / limit.EXPONENTIALS
    assert limit.forward_seconds(1e12, 24, 1000) == pytest.approx(
        24 * 1000 * one / 1e12 + exponentials
    )
    assert limit.best_rate(bfloat16=False, rounds=1) > 1e9


@pytest.mark.slow
@pytest.mark.parametrize("system", ["longdoc", "transformers"])
def test_cases_take_turns_in_processes_of_their_own(system):
    cases = [Case(system=system, what=what, tokens=(64,), layers=1) for what in ("forward", "step")]
    (first, peak), (second, _) = suite.take_turns(cases, 2)
    assert len(first) == len(second) == 2
    assert all(seconds > 0 for seconds in (*first, *second))
    assert 0.2 < peak < 5


@pytest.mark.slow
def test_a_case_that_cannot_run_says_why():
    with pytest.raises(RuntimeError, match="ended with code 1"):
        Worker(Case(tokens=(-1,), layers=1))


def test_a_line_of_the_table_has_what_was_measured():
    case = Case(tokens=(2048,), bfloat16=True)
    measured = Measured("mamba-130m, 24 layers", case, (2.0, 1.0, 4.0), 1.25, share=0.9)
    line = page.row(measured)
    assert line[2:6] == ("forward bf16", "2,048", "2.00", "977")
    assert line[7:9] == ("90%", "1.25")
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
