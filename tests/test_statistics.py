from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from import_helpers import import_all

from generalad.statistics import (
    LEAST_FOR_BOOTSTRAP,
    MANY,
    Estimate,
    bootstrap,
    order_statistic_ranks,
    quantile,
    quantile_estimate,
    student_quantile,
    wilson,
    wilson_ends,
)

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


def test_it_loads_without_numpy() -> None:
    assert "generalad.statistics" in import_all(["generalad.statistics"], ("numpy", "cv2"))


@given(VALUES, st.floats(0, 1))
def test_the_nearest_rank_is_one_of_the_values(values: list[float], q: float) -> None:
    found = quantile(sorted(values), q)
    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) - 1e-9


def test_the_nearest_rank_of_known_values() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    assert [quantile(values, q) for q in (0, 0.25, 0.5, 0.51, 1)] == [1, 1, 2, 3, 4]


@given(VALUES, st.sampled_from([0.5, 0.9]), st.integers(1, 60))
def test_a_quantile_lies_in_its_interval_and_that_within_the_values(
    values: list[float], q: float, independent: int
) -> None:
    found = quantile_estimate(values, q, independent=min(independent, len(values)))
    if found is None:
        return
    assert found.low is not None and found.high is not None
    assert min(values) <= found.low <= found.value <= found.high <= max(values)


@pytest.mark.parametrize(("q", "least"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_too_few_values_have_no_quantile(q: float, least: int) -> None:
    """The least numbers are those for which the largest value exceeds it with 97.5 %."""
    values = np.arange(float(least))
    assert quantile_estimate(values[:-1], q) is None
    assert quantile_estimate(values, q) is not None
    assert quantile_estimate(values, q, independent=least - 1) is None


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_ranks_of_many_values_continue_those_of_fewer(q: float) -> None:
    exact, normal = order_statistic_ranks(MANY, q), order_statistic_ranks(MANY + 1, q)
    assert exact is not None and normal is not None
    assert abs(exact[0] - normal[0]) <= 3
    assert abs(exact[1] - normal[1]) <= 3


def test_a_bootstrap_is_the_same_again_and_holds_the_value() -> None:
    values = np.random.default_rng(0).normal(10, 1, 50)
    first, second = (bootstrap(values, lambda some: np.median(some, axis=-1)) for _ in range(2))
    assert first == second
    assert first.low is not None and first.high is not None
    assert first.low < first.value < first.high


def test_a_bootstrap_draws_rows_together() -> None:
    rows = np.repeat(np.arange(20.0)[:, None], 2, axis=1)
    found = bootstrap(rows, lambda some: np.ptp(some, axis=-1).max(axis=-1))
    assert found == Estimate(0.0, 0.0, 0.0)


def test_few_values_have_no_interval() -> None:
    few = np.arange(LEAST_FOR_BOOTSTRAP - 1.0)
    assert bootstrap(few, lambda some: np.median(some, axis=-1)) == Estimate(2.0)


def test_wilson_agrees_with_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    for count, total, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        rate = wilson(count, total)
        assert (rate.low, rate.high) == pytest.approx((low, high), abs=1e-4)
    assert wilson(20, 20).high == 1.0
    assert math.isnan(wilson(0, 0).value)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(1, 12.7062), (2, 4.30265), (2.5, 3.57465), (9, 2.26216), (1e4, 1.9602)],
)
def test_student_agrees_with_published_values(degrees: float, expected: float) -> None:
    assert student_quantile(degrees) == pytest.approx(expected, rel=3e-4)


@given(st.floats(0, 1), st.floats(1, 1e7), st.floats(1.5, 13))
def test_wilson_holds_the_share_and_has_a_width(share: float, total: float, q: float) -> None:
    low, high = wilson_ends(share, total, q)
    assert 0 <= low <= share <= high <= 1
    assert low < high
