"""Values with their intervals: quantiles, medians over pairs, slopes. Deterministic by seed.

Times of neighbouring runs on a busy machine resemble each other, so that n of them say less than n
independent ones would. They come in blocks here, and every interval is made from how the blocks
differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from generalad.bench.record import Estimate, Times

Floats = NDArray[np.float64]

COVERAGE = 0.95
RESAMPLES = 2000
MANY = 5000
"""More values than this have a binomial distribution that is as good as normal."""

MIN_BLOCKS = 6
"""Fewer blocks or pairs have no interval: even their extremes would not cover at 95 %."""


def times(blocks: Sequence[Sequence[float]]) -> Times:
    """Median and upper quantiles of all runs of some blocks."""
    return Times(
        samples=sum(map(len, blocks)),
        median=quantile(blocks, 0.5) or Estimate(float(np.median(np.concatenate(blocks)))),
        p90=quantile(blocks, 0.90),
        p95=quantile(blocks, 0.95),
        p99=quantile(blocks, 0.99),
    )


def quantile(blocks: Sequence[Sequence[float]], q: float) -> Estimate | None:
    """The q-quantile with an interval between two order statistics, for any distribution.

    The ranks are those of as many independent values as the blocks are worth (see `_worth`). None
    where there are too few for an interval.
    """
    ordered = np.sort(np.concatenate([np.asarray(block, float) for block in blocks]))
    value = float(np.quantile(ordered, q))
    worth = _worth(blocks, value)
    ranks = _ranks(worth, q)
    if ranks is None:
        return None
    scale = len(ordered) / worth
    low = max(math.floor((ranks[0] - 1) * scale), 0)
    high = min(math.ceil(ranks[1] * scale), len(ordered)) - 1
    # Interpolation can put the value itself just outside, where there are few.
    return Estimate(value, min(value, float(ordered[low])), max(value, float(ordered[high])))


def _worth(blocks: Sequence[Sequence[float]], value: float) -> int:
    """How many independent values have as sure a share above `value` as these blocks.

    The share's variance is taken from how it differs between blocks, and compared with that of
    independent values: the design effect of sampling in clusters.
    """
    sizes = np.array([len(block) for block in blocks], float)
    above = np.array([np.mean(np.asarray(block) > value) for block in blocks])
    total, count = float(sizes.sum()), len(blocks)
    share = float(np.sum(sizes * above) / total)
    independent = share * (1 - share) / max(1.0, total - 1)
    if count < 2 or independent == 0:
        return int(total)
    weights = sizes / total
    variance = float(np.sum(weights**2 * (above - share) ** 2)) * count / (count - 1)
    return max(1, int(total / max(1.0, variance / independent - 1e-9)))


def _ranks(count: int, q: float) -> tuple[int, int] | None:
    """Ranks from 1 of the order statistics that enclose the q-quantile of `count` values."""
    if count > MANY:
        middle, spread = count * q, 1.96 * math.sqrt(count * q * (1 - q))
        return math.floor(middle - spread), math.ceil(middle + spread) + 1
    k = np.arange(count + 1)
    log_choose = (
        math.lgamma(count + 1)
        - np.array([math.lgamma(i + 1) for i in k])
        - np.array([math.lgamma(count - i + 1) for i in k])
    )
    below = np.cumsum(np.exp(log_choose + k * math.log(q) + (count - k) * math.log(1 - q)))
    tail = (1 - COVERAGE) / 2
    # Rank r lies above the quantile if fewer than r values lie below it.
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail)) + 1
    return (low, high) if low >= 1 and high <= count else None


def bootstrap(values: Floats, statistic: Callable[[Floats], Floats], *, seed: int = 0) -> Estimate:
    """A statistic with its percentile interval.

    Args:
        values: (n,) or (n, k); rows are drawn together.
        statistic: of the second-last axis of (…, n, k), or of the last of (…, n).
        seed: equal ones give equal intervals.
    """
    point = float(statistic(values[None])[0])
    if len(values) < MIN_BLOCKS:
        return Estimate(point)
    random = np.random.default_rng(seed)
    drawn = statistic(values[random.integers(0, len(values), (RESAMPLES, len(values)))])
    tail = (1 - COVERAGE) / 2 * 100
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return Estimate(point, min(point, float(low)), max(point, float(high)))


def half_width(estimate: Estimate) -> float:
    """Half the interval's length, relative to the value; infinite where there is none."""
    if estimate.low is None or estimate.high is None or estimate.value == 0:
        return math.inf
    return (estimate.high - estimate.low) / 2 / abs(estimate.value)


def neighbours_differ(values: Sequence[float]) -> float | None:
    """Median relative difference of values that follow each other; None of fewer than two."""
    array = np.asarray(values, float)
    if len(array) < 2:
        return None
    return float(np.median(np.abs(np.diff(array)) / ((array[1:] + array[:-1]) / 2)))


def slope(moments: Sequence[float], values: Sequence[float], *, seed: int = 0) -> Estimate:
    """Theil-Sen: the median slope over all pairs of points, in units of value per unit of moment.

    One wild block moves it little. The interval is bootstrapped over stretches of neighbouring
    points, which keep what resembles each other together.
    """
    x, y = np.asarray(moments, float), np.asarray(values, float)
    point = _theil_sen(x, y)
    count, stretch = len(x), max(1, round(len(x) ** (1 / 3)))
    if count // stretch < MIN_BLOCKS:
        return Estimate(point)
    random = np.random.default_rng(seed)
    intercept = float(np.median(y - point * x))
    rest = y - intercept - point * x
    drawn = np.empty(500)
    for number in range(len(drawn)):
        starts = random.integers(0, count - stretch + 1, -(-count // stretch))
        index = (starts[:, None] + np.arange(stretch)).ravel()[:count]
        drawn[number] = _theil_sen(x, intercept + point * x + rest[index])
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Estimate(point, min(point, float(low)), max(point, float(high)))


def _theil_sen(x: Floats, y: Floats) -> float:
    first, second = np.triu_indices(len(x), 1)
    run = x[second] - x[first]
    return float(np.median((y[second] - y[first])[run != 0] / run[run != 0]))
