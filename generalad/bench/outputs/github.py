"""What GitHub shows of a report: a comment on a pull request, and a chart over time.

The chart is that of github-action-benchmark, tool `customSmallerIsBetter`. It compares a value with
the one of the run before, whatever machine that was: good for a chart, not for a gate.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from generalad.bench.outputs import text
from generalad.bench.report import BenchReport, Verdict
from generalad.statistics import Estimate

_SIGN: dict[Verdict | None, str] = {
    "slower": "🔴",
    "not slower": "⚪",
    "same": "⚪",
    "faster": "🟢",
    "cannot tell": "🟡",
    None: "📏",
}
_LONGER = {"ms": "ms an image", "95 %": "95 % interval"}
_GATE_SIGN = {True: "✅", False: "❌", None: "❔"}


def markdown(report: BenchReport) -> str:
    """GitHub's Markdown, with a line feed at the end: the verdict first, the rest folded."""
    head = f"{_SIGN[report.verdict]} {report.verdict or 'measured'}"
    if report.refusal:
        head = "🚫 refused"
    soak = [text.soak_text(report.soak)] if report.soak else []
    medians = text.stage_rows(report, with_p95=not report.comparisons)
    medians[0] = [_LONGER.get(name, name) for name in medians[0]]
    parts = [
        f"### {head}: {_code(text.title(report))}",
        _plain(report.verdict_text),
        _plain(report.refusal),
        _list([f"{_GATE_SIGN[gate.passed]} {gate}" for gate in report.gates]),
        _list([*soak, *report.notes]),
        _table(medians),
        "<details>\n<summary>Details</summary>",
        _quantiles(report),
        _table(text.fact_rows(report)),
        _list(_provenance(report)),
        "</details>",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _quantiles(report: BenchReport) -> str:
    sides = {"old": report.old, "new": report.new} if report.old else {"": report.new}
    rows = [["stage", *(["side"] if report.old else []), "median", "p90", "p95", "p99", "runs"]]
    for stage in text.stages(report):
        for name, side in sides.items():
            if side and (times := side.stages.get(stage)):
                found = (times.median, times.p90, times.p95, times.p99)
                cells = [text.with_interval(one) if one else "too few runs" for one in found]
                rows.append([stage, *([name] if name else []), *cells, str(times.samples)])
    return _table(rows)


def _provenance(report: BenchReport) -> list[str]:
    """Where, how and of which files; what is missing."""
    lines = [f"machine: {text.machine_text(report.machine)}"]
    lines.append(f"settings: {text.settings_text(report)}")
    for name, side in (("new", report.new), ("old", report.old)):
        if side is not None:
            ran = f"{side.precision} on {side.backend}, SHA-256 {side.sha256[:12]}"
            lines.append(f"{name}: {side}, {ran}")
    return [*lines, *text.small_print(report), f"generalad {report.version}, {report.when}"]


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _table(rows: text.Rows) -> str:
    """A heading and rows, numbers to the right; `total` in bold."""
    lines = [[name.strip() for name in rows[0]], ["---", *["---:"] * (len(rows[0]) - 1)]]
    for row in rows[1:]:
        cells = [_plain(cell) for cell in row]
        bold = row[0] == "total"
        lines.append([f"**{cell}**" if bold and cell else cell for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(found: str) -> str:
    """As inline code, whatever is in it."""
    inside = " ".join(found.split())
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", inside)), default=0))
    pad = " " if "`" in inside else ""
    return f"{ticks}{pad}{inside}{pad}{ticks}"


def _plain(found: str) -> str:
    """As text: nothing in it is markup, a mention of somebody or a link to an issue."""
    escaped = html.escape(" ".join(found.split()), quote=False)
    escaped = re.sub(r"([\\`*_\[\]|~])", r"\\\1", escaped)
    return re.sub(r"([@#])(?=\w)", r"\1<!-- -->", escaped)


def github_benchmark(report: BenchReport) -> str:
    """The new side's figures as JSON; `range` and `extra` are shown in a tooltip."""
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
