"""The report on a terminal or in a build log of 80 columns; nearest to the prompt the verdict."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from generalad.bench.outputs import text
from generalad.bench.report import BenchReport, Comparison, Verdict

_STYLE: dict[Verdict, str] = {"slower": "bold red", "faster": "green", "cannot tell": "yellow"}
_GATE = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("?", "yellow")}


def render(report: BenchReport) -> RenderableType:
    """What `console().print` shows of a report."""
    stages = _compared(report) if report.comparisons or report.old else _measured(report)
    facts = _table("", "old", "new") if report.old else _table("", "")
    for name, *sides in text.facts(report):
        facts.add_row(f"{name} ", *(f" {side}" for side in sides))
    lines = [Text(line, "dim") for line in text.small_print(report)]
    lines += [Text(f"note: {note}") for note in report.notes]
    if report.soak is not None:
        lines += [Text(), Text(text.soak_text(report.soak))]
    if report.verdict_text:
        style = _STYLE.get(report.verdict, "") if report.verdict else ""
        lines += [Text(), Text(report.verdict_text, style)]
    if report.refusal:
        lines += [Text(), Text(report.refusal, "yellow")]
    for gate in report.gates:
        sign, style = _GATE[gate.passed]
        lines.append(Text(f"{sign} {gate}", style))
    return Group(_heading(report), Text(), stages, Text(), facts, Text(), *lines)


def _heading(report: BenchReport) -> Text:
    sides = [side for side in (report.new, report.old) if side]
    ran = dict.fromkeys(f"{side.precision} on {side.backend}" for side in sides)
    lines = Text.assemble((text.title(report), "bold"))
    for line in (" against ".join(ran), text.machine_text(report.machine)):
        lines.append(f"\n{line}", "dim")
    return lines.append(f"\n{text.settings_text(report)}", "dim")


def _compared(report: BenchReport) -> Table:
    """Both sides, or one where the other is a baseline, and the change."""
    quantiles = [
        name for side in (("old", "new") if report.old else ("new",)) for name in (side, "p95 ")
    ]
    table = _table("ms", *quantiles, "change", "95 %")
    table.add_column("", no_wrap=True)
    for row in text.stage_rows(report):
        cells: list[RenderableType] = [row.stage]
        for times in (row.old, row.new) if report.old else (row.new,):
            # The space parts the sides.
            cells += [text.median(times), f"{text.p95(times)} " if times else ""]
        cells += _change(row.comparison)
        table.add_row(*cells, style="bold" if row.stage == "total" else "")
    return table


def _change(found: Comparison | None) -> list[Text]:
    if found is None:
        return []
    words = (text.change(found.ratio), text.change_interval(found.ratio), found.verdict)
    return [Text(word, _STYLE.get(found.verdict, "")) for word in words]


def _measured(report: BenchReport) -> Table:
    table = _table("ms", "median", "95 %", "p90", "p95", "p99", "runs")
    for stage, times in ((row.stage, row.new) for row in text.stage_rows(report)):
        if times is None:
            continue
        upper = [text.number(q.value) if q else "" for q in (times.p90, times.p95, times.p99)]
        median, between = text.number(times.median.value), text.interval(times.median)
        style = "bold" if stage == "total" else ""
        table.add_row(stage, median, between, *upper, str(times.samples), style=style)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        show_header=bool(first or any(others)),
        padding=0,
        pad_edge=False,
        header_style="dim",
    )
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
