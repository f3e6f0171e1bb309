"""Two sides that ran interleaved: the ratios of their stages, and when enough is known of them.

Ratios are of pairs of blocks, of times without the waiting for a core: on a busy machine most of
the noise is that other programs have it. A side whose own threads take cores from each other would
hide in that, so the ratio by the clock wins where the two exclude each other. Processes of the same
program differ, so an interval rests on the openings, each of which counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from generalad.bench.gates import LIMIT, Limits, verdict, verdict_text
from generalad.bench.interleaved import Recording
from generalad.bench.report import STAGES, Comparison, Verdict
from generalad.bench.worker_process import Subject
from generalad.statistics import Estimate, clustered_quantile, nested_ratio

NARROW = 0.25  # half of the ratio's interval that is narrow enough, as a share of the limit
NARROW_MEDIAN = 0.02  # the same of the median where nothing is compared, relative
NARROW_P95 = 0.05  # the same of p95, where it has a limit
LOOKS = (10, 13, 17, 22, 29, 38, 50, 65, 85, 110, 145, 190, 250, 330, 430, 560, 730, 950)
"""Openings after which it is asked whether the interval is narrow. Few, because each look is a
chance to end on an interval that is narrow by luck."""


@dataclass(frozen=True)
class Compared:
    """The new side against the old one, or against a baseline."""

    comparisons: tuple[Comparison, ...]  # of all stages that both have, the total last
    text: str  # the verdict in words
    waiting_counts: bool = False  # ratios are those by the clock, because the others exclude them
    speed: float = 1.0  # of this machine relative to the baseline's; ratios are corrected for it
    travel: float = 0.0  # half of the interval, relative, that comes from the way between alone

    @property
    def verdict(self) -> Verdict:
        """On the total."""
        return next(one.verdict for one in self.comparisons if one.stage == "total")


def compare(new: Recording, old: Recording, *, limit: float = LIMIT) -> Compared:
    """Judge the new side against the old one."""
    own, by_clock = (ratio(new, old, "total", waiting=w) for w in (False, True))
    waiting = (own.low or 0.0) > (by_clock.high or math.inf)
    waiting |= (by_clock.low or 0.0) > (own.high or math.inf)
    found = {
        stage: ratio(new, old, stage, waiting=waiting)
        for stage in STAGES
        if stage in new.blocks[0].times and stage in old.blocks[0].times
    }
    pairs, openings = len(new.blocks), len(new.openings)
    text = verdict_text(
        found["total"],
        limit,
        sides=_names(new.subject, old.subject),
        basis=f"{pairs} pairs in {openings} openings",
        given="in the time given",
        cause=_cause(old, found),
    )
    comparisons = (Comparison(stage, r, pairs, verdict(r, limit)) for stage, r in found.items())
    return Compared(tuple(comparisons), text, waiting)


def ratio(new: Recording, old: Recording, stage: str, *, waiting: bool = False) -> Estimate:
    """New over old of one stage, over pairs of blocks that ran side by side."""
    return nested_ratio(log_ratios(new, old, stage, waiting=waiting))


def log_ratios(
    new: Recording, old: Recording, stage: str, *, waiting: bool = False
) -> list[list[float]]:
    """By opening, of each pair the logarithm of the ratio of the two blocks' medians."""
    sides = (side.medians(stage, waiting=waiting) for side in (new, old))
    return [
        [math.log(max(a, 1e-6) / max(b, 1e-6)) for a, b in zip(*pairs, strict=True)]
        for pairs in zip(*sides, strict=True)
    ]


def _cause(old: Recording, found: dict[str, Estimate]) -> str:
    """The stage that makes most of the difference."""
    gains = {
        stage: (value.value - 1) * float(np.median(np.concatenate(old.medians(stage))))
        for stage, value in found.items()
    }
    total = gains.pop("total")
    stage = max(gains, key=lambda name: gains[name] * math.copysign(1, total))
    share = gains[stage] / total if total else 0.0
    # Above 1 where another stage made up for some of it, by chance or not.
    part = f", {min(share, 1.0):.0%} of the difference" if share < 1.05 else ""
    return f"{stage} takes {found[stage].value:.3f} times its time{part}"


def _names(new: Subject, old: Subject) -> tuple[str, str]:
    """How the text tells the two apart."""
    if new.revision and old.revision:
        return new.revision, old.revision
    if new.name == old.name:
        return f"the new {new.name}", f"the old {old.name}"
    return new.name, old.name


# When a bench has seen enough: its intervals are narrow. Stopping by where they lie would be
# looking again and again until noise brings one to the wrong side of the limit.


def narrow(ratio: Estimate, limit: float) -> bool:
    """Whether an interval is short enough to be judged by the limit, wherever it lies."""
    return ratio.half_width <= NARROW * limit


def narrow_enough(new: Recording, old: Recording, limit: float) -> bool:
    """Whether no more openings are needed, by the width of the total's interval alone."""
    return len(new.openings) in LOOKS and narrow(ratio(new, old, "total"), limit)


def precise_enough(limits: Limits) -> Callable[[Sequence[Recording]], bool]:
    """The question that a bench asks after each opening."""

    def enough(recordings: Sequence[Recording]) -> bool:
        new = recordings[0]
        if len(new.openings) not in LOOKS:
            return False
        if limits.p95 is not None and not _narrow_quantile(new, 0.95, NARROW_P95):
            return False
        if len(recordings) == 2:
            return narrow_enough(new, recordings[1], limits.slowdown or LIMIT)
        return _narrow_quantile(new, 0.5, NARROW_MEDIAN)

    return enough


def _narrow_quantile(recording: Recording, q: float, width: float) -> bool:
    found = clustered_quantile(runs(recording, "total"), q)
    return found is not None and found.half_width <= width


def runs(recording: Recording, stage: str) -> list[list[float]]:
    """All times of a stage, by opening; by block where there is one opening only."""
    blocks = [opening.blocks for opening in recording.openings]
    groups = blocks if len(blocks) > 1 else [[block] for block in recording.blocks]
    return [[time for block in group for time in block.times[stage]] for group in groups]
