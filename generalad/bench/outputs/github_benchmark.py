"""The report as github-action-benchmark reads it, for its tool `customSmallerIsBetter`.

That action compares a value with the one of the run before, whatever machine that was: good for a
chart, not for a gate. `range` and `extra` are shown in a tooltip.
"""

from __future__ import annotations

import json
from typing import Any

from generalad.bench.outputs import text
from generalad.bench.report import BenchReport
from generalad.statistics import Estimate


def github_benchmark(report: BenchReport) -> str:
    """The new side's figures as JSON."""
    return json.dumps(entries(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def entries(report: BenchReport) -> list[dict[str, Any]]:
    """Median and p95 of each stage, start, memory and energy; of a comparison the ratio of total.

    Names stay the same from run to run as long as the artifact's does.
    """
    new, total = report.new, report.total
    found: list[tuple[str, str, Any, str]] = []
    for stage, times in new.stages.items():
        for name, value in (("median", times.median), ("p95", times.p95)):
            found.append((f"{stage}, {name}", "ms", value, f"{times.samples} runs\n"))
    for fact in text.side_facts(new):
        if fact.unit in ("ms", "MB", "J an image"):  # of which less is better
            found.append((fact.name, fact.unit.split()[0], fact.value, ""))
    if total:
        extra = f"{total.verdict}, {text.title(report)}, {total.pairs} pairs\n"
        found.append(("total, new over old", "ratio", total.ratio, extra))
    return [
        {
            "name": f"{new.name}: {name}",
            "unit": unit,
            "value": value.value if isinstance(value, Estimate) else value,
            "range": text.interval(value) if isinstance(value, Estimate) else "",
            "extra": extra + text.machine_text(report.machine),
        }
        for name, unit, value, extra in found
        if value is not None
    ]
