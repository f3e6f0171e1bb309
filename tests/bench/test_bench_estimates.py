"""Quantiles, bootstrap and slopes of `gad bench`: do the intervals keep their promise?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.bench.summary import neighbours_differ, times_of
from generalad.statistics import (
    MANY,
    Estimate,
    bootstrap,
    clustered_quantile,
    nested_ratio,
    order_statistic_ranks,
    signed_rank_estimate,
    slope,
)

BLOCKS = st.lists(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=12), min_size=1, max_size=40)


@given(BLOCKS, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_a_quantile_lies_in_its_interval_and_that_within_the_values(
    blocks: list[list[float]], q: float
) -> None:
    found = clustered_quantile(blocks, q)
    if found is None:
        return
    assert found.low is not None and found.high is not None
    values = [value for block in blocks for value in block]
    assert min(values) <= found.low <= found.value <= found.high <= max(values)


@given(BLOCKS, st.sampled_from([0.5, 0.9]), st.sampled_from([0.25, 4.0]))
def test_another_unit_gives_the_same_interval(
    blocks: list[list[float]], q: float, factor: float
) -> None:
    found = clustered_quantile(blocks, q)
    scaled = clustered_quantile([[value * factor for value in block] for block in blocks], q)
    if found is None or found.low is None or found.high is None:
        assert scaled is None
        return
    assert scaled is not None
    expected = Estimate(found.value * factor, found.low * factor, found.high * factor)
    assert scaled.value == pytest.approx(expected.value)
    assert scaled.low == pytest.approx(expected.low)
    assert scaled.high == pytest.approx(expected.high)


@pytest.mark.parametrize(("q", "least"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_too_few_samples_have_no_quantile(q: float, least: int) -> None:
    """The least numbers are those for which the largest value exceeds it with 97.5 %."""
    values = [[float(i)] for i in range(least)]
    assert clustered_quantile(values[:-1], q) is None
    assert clustered_quantile(values, q) is not None


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_ranks_of_many_values_continue_those_of_fewer(q: float) -> None:
    exact, normal = order_statistic_ranks(MANY, q), order_statistic_ranks(MANY + 1, q)
    assert exact is not None and normal is not None
    assert abs(exact[0] - normal[0]) <= 3
    assert abs(exact[1] - normal[1]) <= 3


def coverage(blocks: int, size: int, shared: float, q: float) -> float:
    """How often the interval holds the true quantile; `shared` is the deviation of whole blocks."""
    random = np.random.default_rng(3)
    truth = quantile_of_normal(q) * math.hypot(1, shared)
    hits = 0
    for _ in range(400):
        values = random.normal(size=(blocks, size)) + shared * random.normal(size=(blocks, 1))
        found = clustered_quantile((values + 100).tolist(), q)
        assert found is not None and found.low is not None and found.high is not None
        hits += found.low <= truth + 100 <= found.high
    return hits / 400


def quantile_of_normal(q: float) -> float:
    return {0.5: 0.0, 0.9: 1.2815515655}[q]


@pytest.mark.parametrize("q", [0.5, 0.9])
@pytest.mark.parametrize("shared", [0.0, 2.0])
def test_intervals_cover_also_where_blocks_differ(q: float, shared: float) -> None:
    assert coverage(blocks=60, size=8, shared=shared, q=q) >= 0.90


def test_times_without_intervals_are_still_times() -> None:
    found = times_of([[3.0, 1.0]])
    assert found.samples == 2
    assert found.median == Estimate(2.0)
    assert found.p95 is None


def test_a_bootstrap_is_the_same_again_and_holds_the_value() -> None:
    values = np.random.default_rng(0).normal(10, 1, 50)
    first, second = (bootstrap(values, lambda some: np.median(some, axis=-1)) for _ in range(2))
    assert first == second
    assert first.low is not None and first.high is not None
    assert first.low < first.value < first.high
    assert first.half_width == pytest.approx((first.high - first.low) / 2 / first.value)


def test_few_values_have_no_interval() -> None:
    found = bootstrap(np.array([1.0, 2.0, 3.0]), lambda some: np.median(some, axis=-1))
    assert found == Estimate(2.0)
    assert found.half_width == math.inf


def test_neighbours() -> None:
    assert neighbours_differ([1.0]) is None
    assert neighbours_differ([1.0, 1.0, 1.0]) == 0
    assert neighbours_differ([1.0, 3.0]) == pytest.approx(1.0)


@pytest.mark.parametrize("true", [0.0, 0.5, -2.0])
def test_a_slope_is_found_under_outliers(true: float) -> None:
    random = np.random.default_rng(1)
    x = np.arange(100.0)
    y = 10 + true * x + random.normal(0, 1, 100)
    y[::10] += 300
    found = slope(x.tolist(), y.tolist())
    assert found.low is not None and found.high is not None
    assert found.low <= true <= found.high
    assert found.high - found.low < 0.1


def test_a_slope_of_few_points_has_no_interval() -> None:
    assert slope([0.0, 1.0, 2.0], [0.0, 2.0, 4.0]) == Estimate(2.0)


@pytest.mark.parametrize(("count", "cut"), [(5, 0), (6, 1), (7, 3), (8, 4), (10, 9), (20, 53)])
def test_the_signed_rank_interval_is_that_of_the_tables(count: int, cut: int) -> None:
    """Critical values of Wilcoxon's test at 5 %, two-sided: 0 at 6, 2 at 7, 3 at 8, 52 at 20."""
    values = [float(2**i) for i in range(count)]
    found = signed_rank_estimate(values)
    means = sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])
    assert found.value == np.median(means)
    ends = (means[cut - 1], means[-cut]) if cut else (None, None)
    assert (found.low, found.high) == ends


def test_a_group_counts_once_however_large() -> None:
    groups = [[math.log(1 + i / 100)] * (1000 if i == 9 else 1) for i in range(10)]
    assert nested_ratio(groups).value == pytest.approx(1.045, abs=0.001)


@pytest.mark.parametrize("wild", [False, True])
def test_signed_rank_intervals_cover(wild: bool) -> None:
    random = np.random.default_rng(0)
    shape = (400, 10)
    draws = random.standard_cauchy(shape) if wild else random.normal(size=shape)
    found = [signed_rank_estimate(row) for row in draws]
    held = sum(one.low <= 0 <= one.high for one in found)  # type: ignore[operator]
    assert held >= 0.92 * 400
