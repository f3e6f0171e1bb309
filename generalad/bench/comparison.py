"""Two sides that took turns: ratios of their stages, the verdict, and its sentence.

The ratio of a turn is that of the medians of its two blocks, and the estimate their median.
Both are taken of times without the waiting for a core (see `worker.Watch`): on a busy machine most
of the noise is that other programs have the core. A side whose own threads take cores from each
other would hide in that, so the ratio by the clock is looked at too and wins where the two exclude
each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from generalad.bench import estimates
from generalad.bench.process import Block
from generalad.bench.quantities import percent
from generalad.bench.record import STAGES, Comparison, Estimate, Verdict
from generalad.bench.turns import Recording

LIMIT = 0.05
"""The slowdown that is judged where none is asked for."""

NARROW = 0.25
"""Half of the interval that is narrow enough, as a share of the limit."""

LOOK_EVERY = 10
MIN_TURNS = 60
"""More than one round where starting is quick, so that two sets of processes are compared."""


@dataclass(frozen=True)
class Compared:
    """All stages that both sides have, the total last.

    Attributes:
        waiting_counts: ratios are those by the clock, because the others exclude them.
    """

    comparisons: tuple[Comparison, ...]
    verdict: Verdict
    sentence: str
    waiting_counts: bool


def narrow_enough(new: Recording, old: Recording, limit: float) -> bool:
    """Whether more turns are not needed, by the width of the total's interval alone.

    Stopping by where the interval lies would be looking again and again until noise brings it to
    the wrong side of the limit.
    """
    # Not every turn, because a look costs some milliseconds.
    if len(new.blocks) < MIN_TURNS or len(new.blocks) % LOOK_EVERY:
        return False
    found = ratio_of(log_ratios(new.blocks, old.blocks, "total"))
    return estimates.half_width(found) <= NARROW * limit


def compare(new: Recording, old: Recording, *, limit: float = LIMIT) -> Compared:
    """Judge the new side against the old one."""
    own = ratio(new.blocks, old.blocks, "total")
    by_clock = ratio(new.blocks, old.blocks, "total", waiting=True)
    waiting = _exclude(own, by_clock)
    found = {
        stage: ratio(new.blocks, old.blocks, stage, waiting=waiting)
        for stage in STAGES
        if stage in new.blocks[0].times and stage in old.blocks[0].times
    }
    turns = len(new.blocks)
    comparisons = tuple(
        Comparison(stage, value, turns, verdict(value, limit)) for stage, value in found.items()
    )
    judged = verdict(found["total"], limit)
    sentence = _sentence(new, old, found, judged, limit, turns)
    return Compared(comparisons, judged, sentence, waiting)


def ratio(
    new: Sequence[Block], old: Sequence[Block], stage: str, *, waiting: bool = False
) -> Estimate:
    """New over old of one stage, over pairs of blocks of the same turn."""
    return ratio_of(log_ratios(new, old, stage, waiting=waiting))


def log_ratios(
    new: Sequence[Block], old: Sequence[Block], stage: str, *, waiting: bool = False
) -> estimates.Floats:
    """Of each turn, the logarithm of the ratio of the two blocks' medians."""
    return np.log(_medians(new, stage, waiting)) - np.log(_medians(old, stage, waiting))


def ratio_of(logs: estimates.Floats) -> Estimate:
    """The median over turns, with its bootstrap interval."""
    found = estimates.bootstrap(logs, lambda values: np.median(values, axis=-1))
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    return Estimate(math.exp(found.value), low, high)


def verdict(value: Estimate, limit: float) -> Verdict:
    """Slower or faster if the whole interval lies beyond the limit, same if it lies within."""
    if value.low is None or value.high is None:
        return "cannot tell"
    if value.low > 1 + limit:
        return "slower"
    if value.high < 1 / (1 + limit):
        return "faster"
    within = value.low >= 1 / (1 + limit) and value.high <= 1 + limit
    return "same" if within else "cannot tell"


def _medians(blocks: Sequence[Block], stage: str, waiting: bool) -> estimates.Floats:
    values = [block.times[stage] if waiting else block.own(stage) for block in blocks]
    return np.maximum([float(np.median(block)) for block in values], 1e-6)


def _exclude(one: Estimate, other: Estimate) -> bool:
    """Whether two intervals have nothing in common."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.high < other.low or other.high < one.low


def _sentence(
    new: Recording,
    old: Recording,
    found: dict[str, Estimate],
    judged: Verdict,
    limit: float,
    turns: int,
) -> str:
    total = found["total"]
    names = _names(new, old)
    interval = f"{turns} pairs" if total.low is None else f"{between(total)}, {turns} pairs"
    if judged == "cannot tell" and total.high is not None and total.high <= 1 + limit:
        return (
            f"{names[0]} is not slower than {names[1]} by {percent(limit)}, whether it is faster "
            f"cannot be told: {_times(total.value)} the time ({interval})."
        )
    if judged == "cannot tell":
        return (
            f"Cannot tell in the time given whether {names[0]} is slower than {names[1]}: "
            f"{_times(total.value)} the time ({interval}), limit {percent(limit)}."
        )
    if judged == "same":
        return (
            f"{names[0]} is as fast as {names[1]} within {percent(limit)}: "
            f"{_times(total.value)} the time ({interval})."
        )
    stage, share = _cause(old, found)
    cause = f"; {stage} takes {_times(found[stage].value)} its time"
    cause += f", {share:.0%} of the difference" if share < 1.05 else ""
    return (
        f"{names[0]} is {judged} than {names[1]}: {_times(total.value)} the time ({interval})"
        f"{cause}."
    )


def _cause(old: Recording, found: dict[str, Estimate]) -> tuple[str, float]:
    """The stage that makes most of the difference, and its share of it."""
    gains = {
        stage: (value.value - 1) * float(np.median(_medians(old.blocks, stage, False)))
        for stage, value in found.items()
    }
    total = gains.pop("total")
    sign = math.copysign(1, total)
    stage = max(gains, key=lambda name: gains[name] * sign)
    return stage, gains[stage] / total if total else 0.0


def _names(new: Recording, old: Recording) -> tuple[str, str]:
    """How a sentence tells the two apart."""
    if new.subject.revision and old.subject.revision:
        return new.subject.revision, old.subject.revision
    if new.subject.name == old.subject.name:
        return f"the new {new.subject.name}", f"the old {old.subject.name}"
    return new.subject.name, old.subject.name


def _times(value: float) -> str:
    return f"{value:.3f} times"


def between(value: Estimate, unit: str = "") -> str:
    """An interval in words, such as 95 %: 1.010 to 1.040."""
    return f"95 %: {value.low:.3f}{unit} to {value.high:.3f}{unit}"
