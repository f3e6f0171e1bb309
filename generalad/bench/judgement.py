"""Judging a bench by a baseline that was made elsewhere or at another time.

    ratio of a stage = its multiple of the reference kernels, here over there

What the kernels share with the network cancels: the speed of the processor, its clock, who else was
there. The interval holds the uncertainty of both measurements and of the way between them.

A baseline that has nothing in common with the run refuses. `check` finds that out before anything
is measured; what only the measurement shows (kernels that contradict each other, a machine that is
not quiet) `judge` raises, and the bench writes it into the report as `refusal`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields

from generalad.bench.baseline import Baseline, Conditions, check_rest, conditions_of
from generalad.bench.comparison import verdict
from generalad.bench.quantities import percent
from generalad.bench.record import Comparison, Estimate, Report, Verdict
from generalad.bench.sentence import sentence
from generalad.errors import GadError

RESIDUAL = 0.02
"""Standard deviation, of the logarithm, of a network's time over the kernels' on one machine in
different states; `benchmarks/travel.py` measures 0.010 to 0.017."""

SAME_CPU = 1 / 8
"""What the kernels' disagreement adds to that on the same processor, as a share of its range: there
it comes from programs that use the memory, which move the copy more than any network. Measured."""

OTHER_CPU = 1 / math.sqrt(12)
"""The same on another processor, where the network's factor may lie anywhere between the kernels':
the deviation of a uniform distribution over their range. Assumed, not measured."""

DISAGREE = 0.35
"""Largest range of the kernels' logarithmic factors that a single factor may stand for."""

_NORMAL = 1.96
"""Standard deviations of a 95 % interval."""


@dataclass(frozen=True)
class Judgement:
    """A bench against a baseline.

    Attributes:
        comparisons: of each stage that both have; ratios are corrected for the machine's speed.
        verdict: on `total`.
        sentence: the verdict in words.
        speed: of this machine, now, relative to the baseline's: 2 is twice as fast.
        travel: half of the interval, relative, that comes from the way between the two alone.
    """

    comparisons: tuple[Comparison, ...]
    verdict: Verdict
    sentence: str
    speed: float
    travel: float


def check(here: Conditions, kernels: Collection[str], baseline: Baseline) -> None:
    """Refuse a run that the baseline can never judge, whatever is measured.

    Args:
        here: conditions of the run.
        kernels: names of the reference kernels that it will run.
        baseline: that it is to be judged by.

    Raises:
        GadError: with every reason.
    """
    differ = [
        f"{field.name.replace('_', ' ')} is {_words(found)}, the baseline's {_words(expected)}"
        for field in fields(Conditions)
        if (found := getattr(here, field.name))
        != (expected := getattr(baseline.conditions, field.name))
    ]
    if set(kernels) != baseline.reference.keys():
        differ.append("other reference kernels were run")
    if differ:
        raise _refused(baseline, "; ".join(differ))


def judge(
    report: Report, relative: Mapping[str, Estimate], baseline: Baseline, limit: float
) -> Judgement:
    """Judge the report's new side by a baseline.

    Args:
        report: with `machine.reference`.
        relative: see `relative_times`, of the same run.
        baseline: made here or on another machine.
        limit: share by which the total may take longer, 0.05 for 5 %.

    Raises:
        GadError: the two cannot be compared, with every reason.
    """
    check(conditions_of(report), report.machine.reference, baseline)
    check_rest(report)
    factors = _factors(report, baseline)
    apart = max(factors.values()) - min(factors.values())
    if apart > DISAGREE:
        raise _refused(
            baseline,
            "no single factor describes this machine: it runs "
            + ", ".join(f"{name} {math.exp(-f):.2f}" for name, f in factors.items())
            + " times as fast",
        )
    share = SAME_CPU if report.machine.cpu == baseline.cpu else OTHER_CPU
    deviation = math.hypot(RESIDUAL, share * apart)
    comparisons = tuple(
        _compared(stage, relative[stage], old, report, deviation, limit)
        for stage, old in baseline.relative.items()
        if stage in relative
    )
    total = next(one for one in comparisons if one.stage == "total")
    speed = math.exp(-sum(factors.values()) / len(factors))
    travel = math.exp(_NORMAL * deviation) - 1
    words = sentence(
        total.verdict,
        total.ratio,
        limit,
        sides=(report.new.name, f"the baseline of {baseline.when[:10]}"),
        basis=f"on a machine {speed:.2f} times as fast; the way between them accounts for "
        f"{percent(round(travel, 3))}",
        given="from this baseline",
    )
    return Judgement(comparisons, total.verdict, words, speed, travel)


def _compared(
    stage: str,
    new: Estimate,
    old: Estimate,
    report: Report,
    deviation: float,
    limit: float,
) -> Comparison:
    value = math.log(new.value / old.value)
    parts = (_deviation(new), _deviation(old), deviation)
    if None in parts:
        ratio = Estimate(math.exp(value))
    else:
        half = _NORMAL * math.hypot(*(part for part in parts if part is not None))
        ratio = Estimate(math.exp(value), math.exp(value - half), math.exp(value + half))
    samples = report.new.stages[stage].samples
    return Comparison(stage, ratio, samples, verdict(ratio, limit))


def _deviation(estimate: Estimate) -> float | None:
    """Standard deviation of the logarithm, from a 95 % interval."""
    if estimate.low is None or estimate.high is None:
        return None
    return math.log(estimate.high / estimate.low) / (2 * _NORMAL)


def _factors(report: Report, baseline: Baseline) -> dict[str, float]:
    """How much longer each kernel takes here, as logarithms."""
    here, there = report.machine.reference, baseline.reference
    return {name: math.log(here[name].value / there[name].value) for name in there}


def _refused(baseline: Baseline, why: str) -> GadError:
    return GadError(
        f"the baseline of {baseline.when[:10]} ({baseline.artifact}) cannot judge this run: {why}",
        remedy="make a baseline under these conditions, or compare with --against",
    )


def _words(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value or "none")
