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
    found: list[tuple[str, str, Estimate | float | None, str]] = []
    for stage, times in new.stages.items():
        runs = f"{times.samples} runs"
        found.append((f"{stage}, median", "ms", times.median, runs))
        found.append((f"{stage}, p95", "ms", times.p95, runs))
    found.append(("load", "ms", new.load, ""))
    found.append(("first image", "ms", new.cold, ""))
    found.append(("peak memory", "MB", new.peak_rss or None, ""))  # 0: the system does not tell
    found.append(("GPU memory", "MB", new.gpu_memory, ""))
    found.append(("energy", "J", new.energy, ""))
    if total:
        extra = f"{total.verdict}, {text.title(report)}, {total.pairs} pairs"
        found.append(("total, new over old", "ratio", total.ratio, extra))
    machine = text.machine_text(report.machine)
    return [
        {
            "name": f"{new.name}: {name}",
            "unit": unit,
            "value": value.value if isinstance(value, Estimate) else value,
            "range": text.interval(value) if isinstance(value, Estimate) else "",
            "extra": f"{extra}\n{machine}".lstrip(),
        }
        for name, unit, value, extra in found
        if value is not None
    ]
