"""A long run: whether latency or memory drift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from generalad.bench import estimates
from generalad.bench.record import Estimate, Soak
from generalad.bench.turns import Recording
from generalad.errors import UsageError

WINDOWS = 120
"""Points of the regression, each the median of its share of the run."""

SKIPPED = 0.1
"""Share of the run at its beginning, in which memory is still being claimed."""

LEAST = 10
"""Blocks of a run that has a slope at all."""

HOUR = 3600.0


def soak(recording: Recording, memory: Sequence[float]) -> Soak:
    """Slopes of a recording; `memory` has one value a block, or none."""
    if len(recording.blocks) < LEAST:
        raise UsageError(
            f"the soak was too short for a slope: {len(recording.blocks)} blocks",
            remedy="let it run for longer, such as --soak 30m",
        )
    latency = [float(np.median(block.times["total"])) for block in recording.blocks]
    moments = recording.moments
    return Soak(
        seconds=moments[-1],
        latency=_slope(moments, latency),
        memory=_slope(moments, memory) if len(memory) == len(moments) else None,
    )


def _slope(moments: Sequence[float], values: Sequence[float]) -> Estimate:
    """Per hour, over medians of windows."""
    first = int(len(values) * SKIPPED)
    parts = min(WINDOWS, len(values) - first)
    x, y = (
        [float(np.median(part)) for part in np.array_split(np.asarray(series[first:]), parts)]
        for series in (moments, values)
    )
    found = estimates.slope(x, y)
    low, high = (None if end is None else end * HOUR for end in (found.low, found.high))
    return Estimate(found.value * HOUR, low, high)
