"""Values with their intervals, of blocks of runs. Deterministic by seed.

Times of neighbouring runs resemble each other, so that n of them say less than n independent ones
would. They come in blocks, and every interval is made from how the blocks differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from generalad.bench.report import Times
from generalad.statistics import Estimate, bootstrap, quantile_estimate

Floats = NDArray[np.float64]
Blocks = Sequence[Sequence[float]]


def times(blocks: Blocks) -> Times:
    """Median and upper quantiles of all runs of some blocks."""
    return Times(
        sum(map(len, blocks)),
        quantile(blocks, 0.5) or Estimate(float(np.median(np.concatenate(blocks)))),
        *(quantile(blocks, q) for q in (0.90, 0.95, 0.99)),
    )


def quantile(blocks: Blocks, q: float) -> Estimate | None:
    """The q-quantile with an interval between two order statistics; None where there are too few.

    The ranks are those of as many independent values as have as sure a share above the quantile as
    these blocks: the design effect of sampling in clusters.
    """
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


def median(values: Sequence[float] | Floats) -> Estimate:
    """The median with its bootstrap interval."""
    return bootstrap(np.asarray(values, float), lambda some: np.median(some, axis=-1))


def ratio_of(logs: Floats) -> Estimate:
    """The median of ratios with its bootstrap interval, from their logarithms."""
    found = median(logs)
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    return Estimate(math.exp(found.value), low, high)


def half_width(estimate: Estimate) -> float:
    """Half the interval's length, relative to the value; infinite where there is none."""
    if estimate.low is None or estimate.high is None or estimate.value == 0:
        return math.inf
    return (estimate.high - estimate.low) / 2 / abs(estimate.value)
