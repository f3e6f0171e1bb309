"""What cannot be asked of one bench together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from generalad.bench.gates import Limits
from generalad.errors import UsageError


def check_usage(
    against: str | Path | None,
    against_rev: str | None,
    baseline: str | Path | None,
    save_baseline: str | Path | None,
    batches: Sequence[int],
    limits: Limits,
    soak_for: float | None,
) -> None:
    """Refuse what cannot be asked for together."""
    others = {"an artifact": against, "a revision": against_rev, "a baseline": baseline}
    named = [name for name, value in others.items() if value is not None]
    if len(named) > 1:
        raise UsageError(
            f"a bench compares with one thing only, found {' and '.join(named)}",
            remedy="leave all but one out",
        )
    paired = against is not None or against_rev is not None
    if soak_for is not None and (named or save_baseline is not None):
        raise UsageError("a soak watches one artifact", remedy="leave the comparison out")
    if paired and save_baseline is not None:
        raise UsageError("a baseline is made of one artifact", remedy="leave the comparison out")
    if paired and len(batches) > 1:
        raise UsageError(
            "a comparison is made at one batch size", remedy="run it once for each batch size"
        )
    if limits.slowdown is not None and not named:
        raise UsageError(
            "a slowdown needs something to compare with",
            remedy="add --against, --against-rev or --baseline",
        )
