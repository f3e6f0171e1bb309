"""Limits that were asked for: each holds, does not hold, or cannot be told.

An interval is judged, not a value: a gate says no only if the whole interval lies beyond its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from generalad.bench.quantities import percent
from generalad.bench.record import Comparison, Estimate, Gate, Side

Name = Literal["slowdown", "p95", "memory", "accuracy"]


@dataclass(frozen=True)
class Limits:
    """What is judged; None is not.

    Attributes:
        slowdown: largest share by which the total may take longer, 0.05 for 5 %.
        p95: milliseconds a picture that 95 % of runs may take at most.
        memory: megabytes that the process may have at most.
    """

    slowdown: float | None = None
    p95: float | None = None
    memory: float | None = None


def judge(limits: Limits, new: Side, comparisons: Sequence[Comparison]) -> tuple[Gate, ...]:
    """All gates that were asked for."""
    found = []
    if limits.slowdown is not None:
        total = next(one for one in comparisons if one.stage == "total")
        found.append(slowdown_gate(total.ratio, limits.slowdown))
    if limits.p95 is not None:
        found.append(p95_gate(new.stages["total"].p95, limits.p95))
    if limits.memory is not None:
        found.append(memory_gate(new.peak_rss or None, limits.memory))
    return tuple(found)


def slowdown_gate(ratio: Estimate, limit: float) -> Gate:
    """Whether the total takes at most 1 + `limit` times as long as it did."""
    return _judged(
        "slowdown",
        Estimate(
            ratio.value - 1,
            None if ratio.low is None else ratio.low - 1,
            None if ratio.high is None else ratio.high - 1,
        ),
        limit,
        text=lambda value: f"{value * 100:+.1f} %",
        limit_text=percent(limit),
    )


def p95_gate(value: Estimate | None, limit: float) -> Gate:
    """Whether 95 % of runs take at most `limit` milliseconds a picture."""
    if value is None:
        return Gate("p95", None, f"cannot tell, too few runs for an interval (limit {limit:g} ms)")
    return _judged(
        "p95",
        value,
        limit,
        text=lambda value: f"{value:.3g} ms",
        limit_text=f"{limit:g} ms",
    )


def memory_gate(peak: float | None, limit: float) -> Gate:
    """Whether the worker's memory never exceeded `limit` megabytes."""
    if peak is None:
        return Gate("memory", None, f"cannot tell, this system does not say (limit {limit:g} MB)")
    passed = peak <= limit
    word = "within" if passed else "above"
    return Gate("memory", passed, f"{peak:.0f} MB at most, {word} the limit of {limit:g} MB")


def _judged(
    name: Name,
    value: Estimate,
    limit: float,
    *,
    text: Callable[[float], str],
    limit_text: str,
) -> Gate:
    if value.low is None or value.high is None:
        sentence = f"cannot tell, too few runs for an interval (limit {limit_text})"
        return Gate(name, None, sentence)
    interval = f"95 %: {text(value.low)} to {text(value.high)}"
    if value.low > limit:
        passed, word = False, "above"
    elif value.high <= limit:
        passed, word = True, "within"
    else:
        sentence = f"cannot tell, the limit of {limit_text} lies within {interval}"
        return Gate(name, None, sentence)
    sentence = f"{text(value.value)} ({interval}), {word} the limit of {limit_text}"
    return Gate(name, passed, sentence)
