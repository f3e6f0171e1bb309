"""The report on a terminal: stages first, then the rest, the verdict and the gates last.

Nearest to the prompt stands what a person looks for. Fits into 80 columns, which is also what a
build log has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from generalad.bench.outputs import wording
from generalad.bench.record import Comparison, Gate, Report, Times, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

VERDICT_STYLE: dict[Verdict, str] = {
    "slower": "bold red",
    "not slower": "",
    "same": "",
    "faster": "green",
    "cannot tell": "yellow",
}

_GATE_STYLE = {True: "green", False: "bold red", None: "yellow"}
_GATE_SIGN = {True: "✓", False: "✗", None: "?"}


def render(report: Report) -> RenderableType:
    """What `console().print` shows of a report."""
    from rich.console import Group
    from rich.text import Text

    stages = _compared(report) if report.comparisons or report.old else _measured(report)
    lines = [Text(line, "dim") for line in wording.small_print(report)]
    lines += [Text(f"note: {note}") for note in report.notes]
    if report.soak is not None:
        lines += [Text(), Text(wording.soak_in_words(report.soak))]
    if report.sentence:
        style = VERDICT_STYLE[report.verdict] if report.verdict else ""
        lines += [Text(), Text(report.sentence, style)]
    if report.refusal:
        lines += [Text(), Text(report.refusal, "yellow")]
    lines += [_gate(gate) for gate in report.gates]
    return Group(_heading(report), Text(), stages, Text(), _facts(report), Text(), *lines)


def _heading(report: Report) -> Text:
    from rich.text import Text

    lines = Text.assemble((wording.title(report), "bold"))
    new, old = report.new, report.old
    ran = f"{new.precision} on {new.backend}"
    before = f"{old.precision} on {old.backend}" if old else ran
    lines.append(f"\n{ran if ran == before else f'{ran} against {before}'}", "dim")
    lines.append(f"\n{wording.machine_in_words(report.machine)}", "dim")
    lines.append(f"\n{wording.settings_in_words(report)}", "dim")
    return lines


def _compared(report: Report) -> Table:
    """Both sides, or one where the other is a baseline, and the change."""
    sides = ("old", "new") if report.old else ("new",)
    quantiles = [name for side in sides for name in (side, "p95 ")]
    table = _table("ms", *quantiles, "change", "95 %")
    table.add_column("", no_wrap=True)
    for row in wording.stage_rows(report):
        cells: list[RenderableType] = [row.stage]
        for times in (row.old, row.new) if report.old else (row.new,):
            cells += _median_and_p95(times)
        cells += _change(row.comparison)
        table.add_row(*cells, style="bold" if row.stage == "total" else "")
    return table


def _median_and_p95(times: Times | None) -> list[str]:
    if times is None:
        return ["", ""]
    median = f"{wording.number(times.median.value)} {wording.spread(times.median)}"
    p95 = wording.number(times.p95.value) if times.p95 else ""
    return [median.rstrip(), f"{p95} "]  # the space parts the sides


def _change(found: Comparison | None) -> list[Text]:
    from rich.text import Text

    if found is None:
        return []
    words = (wording.change(found.ratio), wording.change_interval(found.ratio), found.verdict)
    return [Text(word, VERDICT_STYLE[found.verdict]) for word in words]


def _measured(report: Report) -> Table:
    table = _table("ms", "median", "95 %", "p90", "p95", "p99", "runs")
    for stage, times in ((row.stage, row.new) for row in wording.stage_rows(report)):
        if times is None:
            continue
        quantiles = [
            "" if estimate is None else wording.number(estimate.value)
            for estimate in (times.p90, times.p95, times.p99)
        ]
        median, between = wording.number(times.median.value), wording.interval(times.median)
        style = "bold" if stage == "total" else ""
        table.add_row(stage, median, between, *quantiles, str(times.samples), style=style)
    return table


def _facts(report: Report) -> Table:
    table = _table("", "old", "new") if report.old else _table("", "")
    for fact in wording.facts(report):
        cells = [fact.old, fact.new] if report.old else [fact.new]
        table.add_row(f"{fact.name} ", *(f" {cell}" for cell in cells))
    return table


def _gate(gate: Gate) -> Text:
    from rich.text import Text

    style = _GATE_STYLE[gate.passed]
    return Text(f"{_GATE_SIGN[gate.passed]} {wording.gate_in_words(gate)}", style)


def _table(first: str, *others: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

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
