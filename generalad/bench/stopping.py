"""When a bench has seen enough: its intervals are narrow. Where they lie is not looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from generalad.bench import comparison, estimates
from generalad.bench.gates import Limits
from generalad.bench.turns import Recording

MEDIAN = 0.02
"""Half of the median's interval, relative, that is narrow enough where nothing is compared."""

P95 = 0.05
"""The same of the 95 % quantile, where it has a limit."""


def stopping(limits: Limits, soak_for: float | None) -> Callable[[Sequence[Recording]], bool]:
    """The question that a bench asks after each turn; a soak runs to its end."""
    limit = limits.slowdown or comparison.LIMIT

    def enough(recordings: Sequence[Recording]) -> bool:
        new = recordings[0]
        turns = len(new.blocks)
        if soak_for is not None or turns < comparison.MIN_TURNS or turns % comparison.LOOK_EVERY:
            return False
        if limits.p95 is not None and not _narrow(new, 0.95, P95):
            return False
        if len(recordings) == 2:
            return comparison.narrow_enough(new, recordings[1], limit)
        return _narrow(new, 0.5, MEDIAN)

    return enough


def _narrow(recording: Recording, q: float, width: float) -> bool:
    found = estimates.quantile([block.times["total"] for block in recording.blocks], q)
    return found is not None and estimates.half_width(found) <= width
