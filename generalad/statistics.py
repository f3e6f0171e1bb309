"""Statistics that the whole package shares: estimates with intervals, quantiles, the bootstrap.

Every interval is one of 95 %. Importing this loads no NumPy, which would take a tenth of the start
of a command; functions that need it import it themselves.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959963984540054
"""Of the standard normal distribution, two-sided at `CONFIDENCE`."""

RESAMPLES = 2000
LEAST_FOR_BOOTSTRAP = 6
"""Fewer values have no interval of this kind: even their extremes would not cover at 95 %."""

MANY = 5000
"""More values than this have a binomial distribution that is as good as normal."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; both ends None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float:
        """Half the interval's length, relative to the value; infinite where there is none."""
        if self.low is None or self.high is None or self.value == 0:
            return math.inf
        return (self.high - self.low) / 2 / abs(self.value)


@dataclass(frozen=True)
class Rate:
    """How many of `total`, with Wilson's 95 % interval of the share; NaN where `total` is 0."""

    count: int
    total: int
    value: float
    low: float
    high: float


def wilson(count: int, total: int) -> Rate:
    """Share count / total with Wilson's score interval (1927).

    It stays honest at the ends: 0 of 20 does not mean "never".
    """
    if total == 0:
        return Rate(count, total, math.nan, math.nan, math.nan)
    share = count / total
    return Rate(count, total, share, *wilson_ends(share, total))


def wilson_ends(
    share: float, total: float, quantile: float = NORMAL_QUANTILE
) -> tuple[float, float]:
    """Wilson's score interval of a share of `total` > 0 trials, which need not be whole.

    `quantile` is that of the error's distribution, two-sided. The ends lie within 0...1, hold the
    share, and are never equal.
    """
    z2 = quantile**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    deviation = math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    half = quantile * deviation / (1 + z2 / total)
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def student_quantile(degrees: float) -> float:
    """Of Student's t with any number of degrees of freedom >= 1, two-sided at `CONFIDENCE`."""
    import numpy as np

    # With t = sqrt(degrees) tan(a), the density of the angle a is proportional to cos(a)**(df - 1).
    angle = np.linspace(0, math.pi / 2, 4097)
    density = np.cos(angle) ** (degrees - 1)
    below = np.append(0.0, np.cumsum(density[1:] + density[:-1]))
    wanted = float(np.interp(CONFIDENCE, below / below[-1], angle))
    return math.sqrt(degrees) * math.tan(wanted)


def quantile(ascending: Sequence[float], q: float) -> float:
    """The nearest-rank q-quantile of sorted values: always one of them. Needs no NumPy."""
    return ascending[max(0, math.ceil(q * len(ascending)) - 1)]


def quantile_estimate(
    values: Sequence[float] | Floats, q: float, *, independent: int | None = None
) -> Estimate | None:
    """The interpolated q-quantile with an interval between two order statistics.

    It holds for any distribution.

    Args:
        values: (n,), in any order.
        q: 0...1.
        independent: how many independent values these are worth, where they resemble each other;
            all by default.

    Returns:
        None where there are too few for an interval.
    """
    import numpy as np

    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = len(ordered) if independent is None else independent
    ranks = order_statistic_ranks(count, q)
    if ranks is None:
        return None
    value, scale = float(np.quantile(ordered, q)), len(ordered) / count
    low = max(math.floor((ranks[0] - 1) * scale), 0)
    high = min(math.ceil(ranks[1] * scale), len(ordered)) - 1
    # Interpolation can put the value itself just outside, where there are few.
    return Estimate(value, min(value, float(ordered[low])), max(value, float(ordered[high])))


def clustered_quantile(blocks: Sequence[Sequence[float]], q: float) -> Estimate | None:
    """The q-quantile of values that come in blocks, within which they resemble each other.

    The interval is that of as many independent values as have as sure a share above the quantile as
    these blocks: the design effect of sampling in clusters. None where there are too few.
    """
    import numpy as np

    values = np.concatenate([np.asarray(block, float) for block in blocks])
    value = float(np.quantile(values, q))
    weights = np.array([len(block) for block in blocks]) / len(values)
    above = np.array([np.mean(np.asarray(block) > value) for block in blocks])
    share, count = float(np.sum(weights * above)), len(blocks)
    variance = share * (1 - share) / max(1, len(values) - 1)  # of independent values
    effect = 1.0
    if count > 1 and variance > 0:
        clustered = float(np.sum(weights**2 * (above - share) ** 2)) * count / (count - 1)
        effect = max(1.0, clustered / variance - 1e-9)
    return quantile_estimate(values, q, independent=max(1, int(len(values) / effect)))


def order_statistic_ranks(count: int, q: float) -> tuple[int, int] | None:
    """Ranks from 1 of the order statistics of `count` values that enclose the q-quantile."""
    import numpy as np

    if count > MANY:
        middle, half = count * q, NORMAL_QUANTILE * math.sqrt(count * q * (1 - q))
        return math.floor(middle - half), math.ceil(middle + half) + 1
    k = np.arange(count + 1)
    log_choose = (
        math.lgamma(count + 1)
        - np.array([math.lgamma(i + 1) for i in k])
        - np.array([math.lgamma(count - i + 1) for i in k])
    )
    below = np.cumsum(np.exp(log_choose + k * math.log(q) + (count - k) * math.log(1 - q)))
    tail = (1 - CONFIDENCE) / 2
    # Rank r lies above the quantile if fewer than r values lie below it.
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail)) + 1
    return (low, high) if low >= 1 and high <= count else None


def bootstrap(values: Floats, statistic: Callable[[Floats], Floats], *, seed: int = 0) -> Estimate:
    """A statistic with its percentile bootstrap interval, widened to hold the value.

    Args:
        values: (n,) or (n, k); rows are drawn together.
        statistic: of the second-last axis of (..., n, k), or of the last of (..., n).
        seed: equal ones give equal intervals.

    Returns:
        An estimate without interval where there are fewer than `LEAST_FOR_BOOTSTRAP` rows.
    """
    import numpy as np

    value = float(statistic(values[None])[0])
    if len(values) < LEAST_FOR_BOOTSTRAP:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    drawn = statistic(values[rng.integers(0, len(values), (RESAMPLES, len(values)))])
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return Estimate(value, min(value, float(low)), max(value, float(high)))


def median_estimate(values: Sequence[float] | Floats) -> Estimate:
    """The median with its bootstrap interval."""
    import numpy as np

    return bootstrap(np.asarray(values, float), lambda some: np.median(some, axis=-1))


def signed_rank_estimate(values: Sequence[float] | Floats) -> Estimate:
    """The centre of a symmetric distribution: the median of the means of all pairs of values.

    A value makes a pair with itself too. The interval inverts Wilcoxon's signed-rank test: it is
    exact for a few values of any symmetric distribution, however wild (Hodges and Lehmann, 1963).
    Without one where there are fewer than `LEAST_FOR_BOOTSTRAP` values.
    """
    import numpy as np

    array = np.asarray(values, float)
    first, second = np.triu_indices(len(array))
    means = np.sort((array[first] + array[second]) / 2)
    value, cut = float(np.median(means)), _signed_rank_cut(len(array))
    if not cut:
        return Estimate(value)
    return Estimate(value, float(means[cut - 1]), float(means[-cut]))


@functools.lru_cache
def _signed_rank_cut(count: int) -> int:
    """How many means of pairs lie outside an interval at either end; 0 is no interval."""
    import numpy as np

    # How probable each sum of ranks 1...count is, where each has a fair chance to be counted.
    chances = np.ones(1)
    for rank in range(1, count + 1):
        without, with_it = np.pad(chances, (0, rank)), np.pad(chances, (rank, 0))
        chances = (without + with_it) / 2
    return int(np.searchsorted(np.cumsum(chances), (1 - CONFIDENCE) / 2, side="right"))


def nested_ratio(logs: Sequence[Sequence[float] | Floats]) -> Estimate:
    """A ratio from logarithms of ratios in groups, within which they resemble each other.

    Each group counts once, by its median; the interval is that of `signed_rank_estimate`.
    """
    import numpy as np

    found = signed_rank_estimate([float(np.median(group)) for group in logs])
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    return Estimate(math.exp(found.value), low, high)


def slope(moments: Sequence[float], values: Sequence[float], *, seed: int = 0) -> Estimate:
    """Theil-Sen: the median slope over all pairs of points, in units of value per unit of moment.

    One wild value moves it little. The interval is bootstrapped over stretches of neighbouring
    points, which keep what resembles each other together.
    """
    import numpy as np

    x, y = np.asarray(moments, float), np.asarray(values, float)
    first, second = np.triu_indices(len(x), 1)
    run = x[second] - x[first]
    first, second, run = first[run != 0], second[run != 0], run[run != 0]

    def theil_sen(y: Floats) -> float:
        return float(np.median((y[second] - y[first]) / run))

    point, count, stretch = theil_sen(y), len(x), max(1, round(len(x) ** (1 / 3)))
    if count // stretch < LEAST_FOR_BOOTSTRAP:
        return Estimate(point)
    rng = np.random.default_rng(seed)
    line = float(np.median(y - point * x)) + point * x
    drawn = []
    for _ in range(500):
        starts = rng.integers(0, count - stretch + 1, -(-count // stretch))
        index = (starts[:, None] + np.arange(stretch)).ravel()[:count]
        drawn.append(theil_sen(line + (y - line)[index]))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Estimate(point, min(point, float(low)), max(point, float(high)))
