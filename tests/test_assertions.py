import pytest
import torch

from tests.assertions import assert_close


def test_assert_close_fails_on_another_value():
    with pytest.raises(AssertionError, match="differs by"):
        assert_close(torch.tensor([1.0, 2.1]), torch.tensor([1.0, 2.0]), 1e-3)


def test_assert_close_fails_on_another_shape():
    with pytest.raises(AssertionError, match="shape"):
        assert_close(torch.ones(2), torch.ones(3), 1.0)


def test_assert_close_fails_where_only_one_is_nan():
    with pytest.raises(AssertionError, match="NaN"):
        assert_close(torch.tensor([float("nan")]), torch.ones(1), 1.0)


def test_assert_close_fails_on_the_other_infinity():
    with pytest.raises(AssertionError):
        assert_close(torch.tensor([float("inf")]), torch.tensor([-float("inf")]), 1.0)
