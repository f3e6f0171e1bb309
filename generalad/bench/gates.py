"""Limits that were asked for: each holds, does not hold, or cannot be told.

An interval is judged, not a value: a gate says no only if the whole interval lies beyond its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from generalad.bench.comparison import verdict
from generalad.bench.quantities import percent
from generalad.bench.record import Comparison, Estimate, Gate, Side


@dataclass(frozen=True)
class Limits:
    """What is judged; None is not.

    Attributes:
        slowdown: largest share by which the total may take longer, 0.05 for 5 %.
        p95: milliseconds an image that 95 % of runs may take at most.
        memory: megabytes that the process may have at most.
    """

    slowdown: float | None = None
    p95: float | None = None
    memory: float | None = None


def judge(limits: Limits, new: Side, comparisons: Sequence[Comparison]) -> tuple[Gate, ...]:
    """All gates that were asked for; `comparisons` hold no total where a baseline refused."""
    found = []
    if limits.slowdown is not None:
        ratio = next((one.ratio for one in comparisons if one.stage == "total"), None)
        found.append(slowdown_gate(ratio, limits.slowdown))
    if limits.p95 is not None:
        found.append(p95_gate(new.stages["total"].p95, limits.p95))
    if limits.memory is not None:
        found.append(memory_gate(new.peak_rss or None, limits.memory))
    return tuple(found)


def slowdown_gate(ratio: Estimate | None, limit: float) -> Gate:
    """Whether the total takes at most 1 + `limit` times as long as it did, by the verdict."""
    allowed = percent(limit)
    if ratio is None:
        return Gate("slowdown", None, f"not judged (limit {allowed})")
    passed = {"slower": False, "cannot tell": None}.get(verdict(ratio, limit), True)
    if ratio.low is None or ratio.high is None:
        return Gate("slowdown", None, _too_few(allowed))
    value, low, high = (f"{100 * (end - 1):+.1f} %" for end in (ratio.value, ratio.low, ratio.high))
    return Gate("slowdown", passed, _sentence(passed, value, f"{low} to {high}", allowed))


def p95_gate(value: Estimate | None, limit: float) -> Gate:
    """Whether 95 % of runs take at most `limit` milliseconds an image."""
    allowed = f"{limit:g} ms"
    if value is None or value.low is None or value.high is None:
        return Gate("p95", None, _too_few(allowed))
    passed = False if value.low > limit else True if value.high <= limit else None
    interval = f"{value.low:.3g} ms to {value.high:.3g} ms"
    return Gate("p95", passed, _sentence(passed, f"{value.value:.3g} ms", interval, allowed))


def memory_gate(peak: float | None, limit: float) -> Gate:
    """Whether the worker's memory never exceeded `limit` megabytes."""
    if peak is None:
        return Gate("memory", None, f"cannot tell, this system does not say (limit {limit:g} MB)")
    passed = peak <= limit
    word = "within" if passed else "above"
    return Gate("memory", passed, f"{peak:.0f} MB at most, {word} the limit of {limit:g} MB")


def _sentence(passed: bool | None, value: str, interval: str, limit: str) -> str:
    if passed is None:
        return f"cannot tell, the limit of {limit} lies within 95 %: {interval}"
    word = "within" if passed else "above"
    return f"{value} (95 %: {interval}), {word} the limit of {limit}"


def _too_few(limit: str) -> str:
    return f"cannot tell, too few runs for an interval (limit {limit})"
