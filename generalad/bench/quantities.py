"""Durations and shares as people write them: 90s, 5m, 1h; 5%."""

from __future__ import annotations

import math
import re

from generalad.errors import UsageError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def duration(text: str) -> float:
    """Seconds, above 0, of "60s", "1.5m" or "2h".

    Raises:
        UsageError: anything else; a bare number could be seconds or minutes.
    """
    match = _DURATION.fullmatch(text.strip())
    value = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not (value > 0 and math.isfinite(value)):
        raise UsageError(
            f"expected a duration, found {text!r}", remedy="write it such as 60s or 5m"
        )
    return value


def share(text: str) -> float:
    """The value, above 0 and below 1, of "5%".

    Raises:
        UsageError: anything else; a bare 5 could mean 500 %.
    """
    match = _SHARE.fullmatch(text.strip())
    value = float(match[1]) / 100 if match else 0.0
    if not 0 < value < 1:
        raise UsageError(
            f"expected a share above 0% and below 100%, found {text!r}",
            remedy="write it such as 5%",
        )
    return value


def batches(text: str) -> tuple[int, ...]:
    """The batch sizes of "1,8,32"; raises UsageError for anything else."""
    words = text.split(",")
    if not all(re.fullmatch(r"\s*0*[1-9]\d{0,5}\s*", word) for word in words):
        raise UsageError(f"expected batch sizes, found {text!r}", remedy="write them such as 1,8")
    found = tuple(int(word) for word in words)
    if len(set(found)) < len(found):
        raise UsageError(f"a batch size is named twice in {text!r}", remedy="name it once")
    return found


def in_words(seconds: float) -> str:
    """A duration for people: "45 s", "2 min"."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def percent(value: float) -> str:
    """A share for people: "5 %", "12.5 %"."""
    return f"{value * 100:.3g} %"
