"""Two sides that took turns: the ratios of their stages, and the verdict.

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
from generalad.bench.record import STAGES, Comparison, Estimate, Verdict
from generalad.bench.sentence import Cause, sentence
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
    return narrow(ratio_of(log_ratios(new.blocks, old.blocks, "total")), limit)


def narrow(ratio: Estimate, limit: float) -> bool:
    """Whether an interval is short enough to be judged by the limit, wherever it lies."""
    return estimates.half_width(ratio) <= NARROW * limit


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
    words = sentence(
        judged,
        found["total"],
        limit,
        sides=_names(new, old),
        basis=f"{turns} pairs",
        given="in the time given",
        cause=_cause(old, found),
    )
    return Compared(comparisons, judged, words, waiting)


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
    """Where the interval lies; `gates` and the sentence go by nothing else.

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


def _medians(blocks: Sequence[Block], stage: str, waiting: bool) -> estimates.Floats:
    values = [block.times[stage] if waiting else block.own(stage) for block in blocks]
    return np.maximum([float(np.median(block)) for block in values], 1e-6)


def _exclude(one: Estimate, other: Estimate) -> bool:
    """Whether two intervals have nothing in common."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.high < other.low or other.high < one.low


def _cause(old: Recording, found: dict[str, Estimate]) -> Cause:
    """The stage that makes most of the difference."""
    gains = {
        stage: (value.value - 1) * float(np.median(_medians(old.blocks, stage, False)))
        for stage, value in found.items()
    }
    total = gains.pop("total")
    sign = math.copysign(1, total)
    stage = max(gains, key=lambda name: gains[name] * sign)
    return Cause(stage, found[stage].value, gains[stage] / total if total else 0.0)


def _names(new: Recording, old: Recording) -> tuple[str, str]:
    """How a sentence tells the two apart."""
    if new.subject.revision and old.subject.revision:
        return new.subject.revision, old.subject.revision
    if new.subject.name == old.subject.name:
        return f"the new {new.subject.name}", f"the old {old.subject.name}"
    return new.subject.name, old.subject.name
