"""The report as github-action-benchmark reads it, for its tool `customSmallerIsBetter`.

A list of objects with `name`, `unit`, `value` and, for the tooltip, `range` and `extra`. That
action compares a value with the one of the run before, whatever machine that was: good for a chart,
not for a gate.
"""

from __future__ import annotations

import json
from typing import TypedDict

from generalad.bench.outputs import wording
from generalad.bench.record import Estimate, Report


class Entry(TypedDict):
    """One line of a chart; less is better."""

    name: str
    unit: str
    value: float
    range: str
    extra: str


def github_benchmark(report: Report) -> str:
    """The new side's figures as JSON."""
    return json.dumps(entries(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def entries(report: Report) -> list[Entry]:
    """Median and p95 of each stage, start, memory and energy; of a comparison the ratio of total.

    Names stay the same from run to run as long as the artifact's does.
    """
    new = report.new
    found: list[tuple[str, str, Estimate, str]] = []
    for stage, times in new.stages.items():
        runs = f"{times.samples} runs"
        found.append((f"{stage}, median", "ms", times.median, runs))
        if times.p95 is not None:
            found.append((f"{stage}, p95", "ms", times.p95, runs))
    found.append(("load", "ms", new.load, ""))
    found.append(("first image", "ms", new.cold, ""))
    if new.peak_rss:  # 0 where the system does not tell
        found.append(("peak memory", "MB", Estimate(new.peak_rss), ""))
    if new.gpu_memory is not None:
        found.append(("GPU memory", "MB", Estimate(new.gpu_memory), ""))
    if new.energy is not None:
        found.append(("energy", "J", Estimate(new.energy), ""))
    for one in report.comparisons:
        if one.stage == "total":
            extra = f"{one.verdict}, {wording.title(report)}, {one.pairs} pairs"
            found.append(("total, new over old", "ratio", one.ratio, extra))
    machine = wording.machine_in_words(report.machine)
    return [
        Entry(
            name=f"{new.name}: {name}",
            unit=unit,
            value=value.value,
            range=wording.interval(value),
            extra=f"{extra}\n{machine}".lstrip(),
        )
        for name, unit, value, extra in found
    ]
