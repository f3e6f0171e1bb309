"""The report on a terminal or in a build log of 80 columns; nearest to the prompt the verdict."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from generalad.bench.outputs import text
from generalad.bench.report import BenchReport

_STYLE = {"slower": "bold red", "faster": "green", "cannot tell": "yellow"}  # of verdicts
_GATE = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("?", "yellow")}


def render(report: BenchReport) -> RenderableType:
    """What `console().print` shows of a report."""
    lines = [Text(line, "dim") for line in text.small_print(report)]
    lines += [Text(f"note: {note}") for note in report.notes]
    if report.soak is not None:
        lines += [Text(), Text(text.soak_text(report.soak))]
    if report.verdict_text:
        lines += [Text(), Text(report.verdict_text, _STYLE.get(report.verdict or "", ""))]
    if report.refusal:
        lines += [Text(), Text(report.refusal, "yellow")]
    for gate in report.gates:
        sign, style = _GATE[gate.passed]
        lines.append(Text(f"{sign} {gate}", style))
    facts = [
        [f"{name} ", *(f" {side}" for side in sides)] for name, *sides in text.fact_rows(report)
    ]
    return Group(_heading(report), Text(), _stages(report), Text(), _table(facts), Text(), *lines)


def _heading(report: BenchReport) -> Text:
    sides = [side for side in (report.new, report.old) if side]
    ran = dict.fromkeys(f"{side.precision} on {side.backend}" for side in sides)
    lines = [" against ".join(ran), text.machine_text(report.machine), text.settings_text(report)]
    return Text.assemble((text.title(report), "bold"), *((f"\n{line}", "dim") for line in lines))


def _stages(report: BenchReport) -> Table:
    """Both sides, or one where the other is a baseline, and the change; alone all quantiles."""
    if report.comparisons or report.old:
        return _table(text.stage_rows(report, with_p95=True))
    rows = [["ms", "median", "95 %", "p90", "p95", "p99", "runs"]]
    for stage in text.stages(report):
        times = report.new.stages[stage]
        upper = [text.number(q.value) if q else "" for q in (times.p90, times.p95, times.p99)]
        median = [text.number(times.median.value), text.interval(times.median)]
        rows.append([stage, *median, *upper, str(times.samples)])
    return _table(rows)


def _table(rows: text.Rows) -> Table:
    """A heading and rows. What a verdict, if it ends a row, is about has its colour."""
    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        show_header=any(name.strip() for name in rows[0]),
        padding=0,
        pad_edge=False,
        header_style="dim",
    )
    for column, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if column and name else "left", no_wrap=True)
    for row in rows[1:]:
        style = _STYLE.get(row[-1], "")
        cells = [Text(cell, style if cell in row[-3:] else "") for cell in row]
        table.add_row(*cells, style="bold" if row[0] == "total" else "")
    return table
