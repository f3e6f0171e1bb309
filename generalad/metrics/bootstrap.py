"""Intervals (95 %): percentile bootstrap over images, and Wilson's for a counted rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
_NORMAL_QUANTILE = 1.959963984540054  # two-sided 95 % of the standard normal distribution
_BATCH_ELEMENTS = 2_000_000  # weights held at once; bounds the memory, not the result


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval; NaN where it cannot be computed."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rate:
    """How many of `total` images, with Wilson's 95 % interval of the share."""

    count: int
    total: int
    value: float
    low: float
    high: float


def wilson(count: int, total: int) -> Rate:
    """Share count / total with Wilson's score interval (1927); NaN when total is 0.

    Unlike the bootstrap it stays honest at the ends: 0 of 20 does not mean "never".
    """
    if total == 0:
        return Rate(count, total, math.nan, math.nan, math.nan)
    share, z2 = count / total, _NORMAL_QUANTILE**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    spread = math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    half = _NORMAL_QUANTILE * spread / (1 + z2 / total)
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == total else centre + half
    return Rate(count, total, share, low, high)


def bootstrap(
    statistic: Callable[[Floats], Floats],
    strata: NDArray[np.bool_],
    *,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Low and high ends (M,) of the percentile interval of M statistics.

    `statistic` takes weights (R, B), how often each of B images was drawn in each of R resamples,
    and returns (R, M). Images are drawn with replacement among those with the same value in
    `strata` (B,), so every resample has as many good and as many defective images as the test set.
    """
    batch = max(1, _BATCH_ELEMENTS // max(1, strata.size))
    parts = [
        statistic(_draw(strata, min(batch, resamples - start), rng))
        for start in range(0, resamples, batch)
    ]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(parts), [tail, 100 - tail], axis=0)
    return low, high


def estimates(values: Sequence[float], lows: Floats, highs: Floats) -> list[Estimate]:
    """Join values and the ends of their intervals."""
    return [
        Estimate(float(value), float(low), float(high))
        for value, low, high in zip(values, lows, highs, strict=True)
    ]


def _draw(strata: NDArray[np.bool_], resamples: int, rng: np.random.Generator) -> Floats:
    weights = np.zeros((resamples, strata.size))
    for stratum in (False, True):
        members = np.flatnonzero(strata == stratum)
        if members.size:
            uniform = np.full(members.size, 1 / members.size)
            weights[:, members] = rng.multinomial(members.size, uniform, size=resamples)
    return weights
