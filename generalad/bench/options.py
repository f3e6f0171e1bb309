"""What a bench is asked for: limits, and what excludes what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from generalad.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """What is judged; None is not."""

    slowdown: float | None = None  # the largest share by which the total may take longer
    p95: float | None = None  # milliseconds an image that 95 % of runs may take at most
    memory: float | None = None  # megabytes that the process may have at most


def check_options(
    against: str | Path | None,
    against_rev: str | None,
    baseline: str | Path | None,
    save_baseline: str | Path | None,
    batches: Sequence[int],
    limits: Limits,
    soak_for: float | None,
) -> None:
    """Refuse, with a UsageError, what cannot be asked of one bench together."""
    others = {"an artifact": against, "a revision": against_rev, "a baseline": baseline}
    named = [name for name, value in others.items() if value is not None]
    paired = against is not None or against_rev is not None
    if len(named) > 1:
        message = f"a bench compares with one thing only, found {' and '.join(named)}"
        raise UsageError(message, remedy="leave all but one out")
    if soak_for is not None and (named or save_baseline is not None):
        raise UsageError("a soak watches one artifact", remedy="leave the comparison out")
    if paired and save_baseline is not None:
        raise UsageError("a baseline is made of one artifact", remedy="leave the comparison out")
    if paired and len(batches) > 1:
        message = "a comparison is made at one batch size"
        raise UsageError(message, remedy="run it once for each batch size")
    if limits.slowdown is not None and not named:
        message = "a slowdown needs something to compare with"
        raise UsageError(message, remedy="add --against, --against-rev or --baseline")
