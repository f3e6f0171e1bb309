"""Verdicts on ratios, in words too, and the limits that were asked for.

An interval is judged, not a value: a gate says no only if the whole interval lies beyond its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from generalad.bench.report import Comparison, Gate, Side, Verdict
from generalad.statistics import Estimate

LIMIT = 0.05  # the slowdown that is judged where none is asked for


@dataclass(frozen=True)
class Limits:
    """What is judged; None is not."""

    slowdown: float | None = None  # the largest share by which the total may take longer
    p95: float | None = None  # milliseconds an image that 95 % of runs may take at most
    memory: float | None = None  # megabytes that the process may have at most


def verdict(value: Estimate, limit: float) -> Verdict:
    """Where the interval lies; gates and the text go by nothing else.

    Slower or faster if it lies wholly beyond the limit, same if wholly within; not slower if only
    whether it is faster is open.
    """
    if value.low is None or value.high is None:
        return "cannot tell"
    if value.low > 1 + limit:
        return "slower"
    if value.high < 1 / (1 + limit):
        return "faster"
    if value.high > 1 + limit:
        return "cannot tell"
    return "same" if value.low >= 1 / (1 + limit) else "not slower"


def verdict_text(
    ratio: Estimate,
    limit: float,
    *,
    sides: tuple[str, str],
    basis: str,
    given: str,
    cause: str = "",
) -> str:
    """Say the verdict on a ratio, new over old, in one sentence.

    It rests on `basis`, such as "60 pairs"; where nobody can tell, what was too little is `given`,
    such as "in the time given". The cause is named where there is a difference.
    """
    (new, old), judged = sides, verdict(ratio, limit)
    by = f"by more than {percent(limit)}"
    start = {
        "slower": f"{new} is slower than {old}",
        "faster": f"{new} is faster than {old}",
        "same": f"{new} is as fast as {old} within {percent(limit)}",
        "not slower": f"{new} is not slower than {old} {by}, and may be faster",
        "cannot tell": f"Cannot tell {given} whether {new} is slower than {old} {by}",
    }[judged]
    interval = "" if ratio.low is None else f"95 %: {ratio.low:.3f} to {ratio.high:.3f}, "
    end = f"; {cause}" if cause and judged in ("slower", "faster") else ""
    return f"{start}: {ratio.value:.3f} times the time ({interval}{basis}){end}."


def judge_limits(limits: Limits, new: Side, comparisons: Sequence[Comparison]) -> tuple[Gate, ...]:
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
    """Whether the total takes at most 1 + `limit` times as long as it did."""
    if ratio is None:
        return Gate("slowdown", None, f"not judged (limit {percent(limit)})")
    words = percent(limit)
    return _interval_gate("slowdown", ratio, 1 + limit, words, lambda r: f"{100 * (r - 1):+.1f} %")


def p95_gate(value: Estimate | None, limit: float) -> Gate:
    """Whether 95 % of runs take at most `limit` milliseconds an image."""
    return _interval_gate("p95", value, limit, f"{limit:g} ms", lambda end: f"{end:.3g} ms")


def memory_gate(peak: float | None, limit: float) -> Gate:
    """Whether the worker's memory never exceeded `limit` megabytes."""
    if peak is None:
        return Gate("memory", None, f"cannot tell, this system does not say (limit {limit:g} MB)")
    word = "within" if peak <= limit else "above"
    return Gate("memory", peak <= limit, f"{peak:.0f} MB at most, {word} the limit of {limit:g} MB")


def _interval_gate(
    name: Literal["slowdown", "p95"],
    value: Estimate | None,
    most: float,
    limit: str,
    show: Callable[[float], str],
) -> Gate:
    """Whether an interval lies wholly within or above `most`, which people call `limit`."""
    if value is None or value.low is None or value.high is None:
        return Gate(name, None, f"cannot tell, too few runs for an interval (limit {limit})")
    between = f"{show(value.low)} to {show(value.high)}"
    if value.low <= most < value.high:
        return Gate(name, None, f"cannot tell, the limit of {limit} lies within 95 %: {between}")
    word = "within" if value.high <= most else "above"
    reason = f"{show(value.value)} (95 %: {between}), {word} the limit of {limit}"
    return Gate(name, value.high <= most, reason)


def percent(value: float) -> str:
    """A share for people: "5 %", "12.5 %"."""
    return f"{value * 100:.3g} %"
