"""One self-contained HTML page from a folder of reports: no script, no network, safe to mail.

Only what is alike is joined by a line: the same artifact's name, precision and backend on the same
kind of machine with the same batch, threads and source. Absolute times still move with the machine;
the ratios were measured in pairs and do not.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from generalad.bench.outputs import wording
from generalad.bench.outputs.history_figures import (
    SMALL,
    compared,
    date_of,
    drift_plot,
    kind_of,
    ratio_plot,
    throughput_plot,
    times_plot,
)
from generalad.bench.outputs.history_folder import History, Run, read_history
from generalad.bench.record import STAGES, Gate, Report
from generalad.files import atomic_write

ALIKE = ("batch", "threads", "source")
"""Settings that change the times."""

SHOWN = 30
"""Runs in a table before the rest is folded."""


def write_history(folder: Path, page: Path) -> History:
    """Read all reports below `folder` and write the page.

    Raises:
        DataError: there is no such folder, or no report in it.
        StorageError: the page cannot be written.
    """
    history = read_history(folder)
    with atomic_write(page) as temporary:
        temporary.write_text(render(history), encoding="utf-8", errors="replace")
    return history


def render(history: History) -> str:
    """The page as HTML."""
    style = "".join(
        resources.files(package).joinpath(name).read_text(encoding="utf-8")
        for package, name in (
            ("generalad.metrics", "report.css"),
            ("generalad.bench.outputs", "history.css"),
        )
    )
    series: dict[tuple[str, ...], list[Run]] = {}
    for run in history.runs:
        series.setdefault(_key(run.report), []).append(run)
    body = [_header(history, len(series)), *(_section(series[key]) for key in sorted(series))]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Latency over time</title><style>{style}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _key(report: Report) -> tuple[str, ...]:
    new, machine = report.new, report.machine
    settings = (str(report.settings.get(name)) for name in ALIKE)
    where = (machine.cpu, str(machine.cores), machine.architecture, machine.gpu or "")
    return (new.name, new.precision, new.backend, *where, str(machine.threads), *settings)


def _header(history: History, series: int) -> str:
    first, last = (date_of(history.runs[i].when) for i in (0, -1))
    shown = {
        "reports": str(len(history.runs)),
        "from": first,
        "to": last,
        "artifacts and machines": str(series),
        "skipped files": str(len(history.skipped)),
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in shown.items())
    skipped = "".join(
        f"<li><code>{html.escape(name)}</code>: {html.escape(reason)}</li>"
        for name, reason in history.skipped
    )
    folded = f"<details><summary>Skipped, because they are no reports</summary><ul>{skipped}</ul>"
    return (
        '<header><p class="kicker">generalad bench</p><h1>Latency over time</h1>'
        f'<dl class="facts">{items}</dl>{f"{folded}</details>" if skipped else ""}</header>'
    )


def _section(runs: Sequence[Run]) -> str:
    report = runs[-1].report
    machine = html.escape(wording.machine_in_words(report.machine))
    alike = [
        f"{name} {wording.setting_in_words(name, report.settings[name])}"
        for name in ALIKE
        if report.settings.get(name) is not None
    ]
    ran = html.escape(", ".join([f"{report.new.precision} on {report.new.backend}", *alike]))
    return (
        f"<section><h2>{html.escape(report.new.name)}<small>{ran}</small></h2>"
        f'<p class="note">{machine}</p>{_overview(runs)}{_stages(runs)}{_table(runs)}</section>'
    )


def _overview(runs: Sequence[Run]) -> str:
    """The total, and beside it the ratios if there are any."""
    key = (
        '<span><i class="median"></i>median</span><span><i class="p95"></i>p95</span>'
        "<span>with 95 % intervals</span>"
    )
    paired = any(compared(run.report) for run in runs)
    size = (720, 260) if paired else (1080, 260)
    total = _sheet("Total, ms an image", times_plot(runs, "total", *size), key, kind="sheet wide")
    if not paired:
        return total
    drawn, limit = ratio_plot(runs)
    key = "<span>change of the median, in pairs</span>"
    if limit is not None:
        key += '<span><i class="limit"></i>limit of the last run</span>'
    return f'<div class="side">{total}{_sheet("New against old", drawn, key)}</div>'


def _stages(runs: Sequence[Run]) -> str:
    """Small plots of all else that has a course, and why some of it has none."""
    known = {stage for run in runs for stage in run.report.new.stages} - {"total"}
    ordered = [stage for stage in STAGES if stage in known] + sorted(known - set(STAGES))
    sheets = [_sheet(html.escape(stage), times_plot(runs, stage, *SMALL)) for stage in ordered]
    why_not = []
    if any(run.report.new.throughput for run in runs):
        key = (
            '<span><i class="median"></i>one session</span>'
            '<span><i class="p95"></i>most of all</span><span>more is better</span>'
        )
        sheets.append(_sheet("images a second", throughput_plot(runs), key))
    else:
        why_not.append("Throughput is measured where an artifact is benched alone.")
    soaks = [run.report.soak for run in runs if run.report.soak is not None]
    if soaks:
        sheets.append(_sheet("drift, ms an hour", drift_plot(runs, "latency")))
    else:
        why_not.append("None of these runs was a soak.")
    if any(soak.memory for soak in soaks):
        sheets.append(_sheet("drift, MB an hour", drift_plot(runs, "memory")))
    elif soaks:
        why_not.append("The system did not tell the memory of the soaks.")
    note = f'<p class="note">{" ".join(why_not)}</p>' if why_not else ""
    return f'<div class="stages">{"".join(sheets)}</div>{note}'


def _sheet(name: str, drawn: str, key: str = "", kind: str = "sheet") -> str:
    shown = f'<p class="key">{key}</p>' if key else ""
    return f'<div class="{kind}"><h3>{name}</h3>{shown}{drawn}</div>'


def _table(runs: Sequence[Run]) -> str:
    """All runs, the newest first."""
    head = (
        '<thead><tr><th>when, UTC</th><th>artifact</th><th class="number">median</th>'
        '<th class="number">p95</th><th class="number">change</th><th>verdict</th><th>gates</th>'
        "</tr></thead>"
    )
    rows = [_row(run) for run in reversed(runs)]
    shown, rest = rows[:SHOWN], rows[SHOWN:]

    def sheet(some: list[str]) -> str:
        table = f'<table class="runs">{head}<tbody>{"".join(some)}</tbody></table>'
        return f'<div class="sheet scroll">{table}</div>'

    older = f"<details><summary>{len(rest)} older runs</summary>{sheet(rest)}</details>"
    return f"<h3>Runs</h3>{sheet(shown)}{older if rest else ''}"


def _row(run: Run) -> str:
    report, found = run.report, compared(run.report)
    total = report.new.stages.get("total")
    median = wording.number(total.median.value) if total else ""
    p95 = wording.number(total.p95.value) if total and total.p95 else ""
    which = report.new.revision or report.new.sha256
    change, verdict, kind = "", "", ""
    if found is not None:
        change = (
            f"{wording.change(found.ratio)}<small>{wording.change_interval(found.ratio)}</small>"
        )
        verdict, kind = found.verdict, kind_of(found.verdict)
    said = [_gate(gate) for gate in report.gates]
    if report.refusal:
        verdict, kind = "refused", "cannot"
        said.append(html.escape(report.refusal))
    gates = "<br>".join(said)
    return (
        f"<tr><td>{date_of(run.when)}</td><td><code>{html.escape(which[:12])}</code></td>"
        f'<td class="number">{median}</td><td class="number">{p95}</td>'
        f'<td class="number">{change}</td><td class="{kind}">{verdict}</td><td>{gates}</td></tr>'
    )


def _gate(gate: Gate) -> str:
    """Its answer; the whole sentence where it is not "passed"."""
    kind = {True: "passed", False: "failed", None: "cannot"}[gate.passed]
    text = f"{gate.name} passed" if gate.passed else html.escape(wording.gate_in_words(gate))
    return f'<span class="{kind}">{text}</span>'
