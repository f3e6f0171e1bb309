"""What a bench is asked for: limits, quantities as people write them, what excludes what."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from generalad.errors import UsageError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Limits:
    """What is judged; None is not."""

    slowdown: float | None = None  # the largest share by which the total may take longer
    p95: float | None = None  # milliseconds an image that 95 % of runs may take at most
    memory: float | None = None  # megabytes that the process may have at most


def duration(text: str) -> float:
    """Seconds of "60s", "1.5m" or "2h"; a bare number could be either, and is a UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)", text.strip())
    value = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not (value > 0 and math.isfinite(value)):
        remedy = "write it such as 60s or 5m"
        raise UsageError(f"expected a duration, found {text!r}", remedy=remedy)
    return value


def share(text: str) -> float:
    """The value of "5%", above 0 and below 1; a bare 5 could mean 500 %, and is a UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    value = float(match[1]) / 100 if match else 0.0
    if not 0 < value < 1:
        message = f"expected a share above 0% and below 100%, found {text!r}"
        raise UsageError(message, remedy="write it such as 5%")
    return value


def batch_sizes(text: str) -> tuple[int, ...]:
    """The batch sizes of "1,8,32"; raises UsageError for anything else."""
    words = text.split(",")
    if not all(re.fullmatch(r"\s*0*[1-9]\d{0,5}\s*", word) for word in words):
        raise UsageError(f"expected batch sizes, found {text!r}", remedy="write them such as 1,8")
    found = tuple(int(word) for word in words)
    if len(set(found)) < len(found):
        raise UsageError(f"a batch size is named twice in {text!r}", remedy="name it once")
    return found


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


def percent(value: float) -> str:
    """A share for people: "5 %", "12.5 %"."""
    return f"{value * 100:.3g} %"


def duration_text(seconds: float) -> str:
    """A duration for people: "45 s", "2 min"."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
