"""One self-contained HTML page from a folder of reports: no script, no network, safe to mail.

Only what is alike is joined by a line: the same artifact's name, precision and backend on the same
kind of machine with the same batch, threads and source.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from generalad.bench.outputs import history_plots as plots
from generalad.bench.outputs import text
from generalad.bench.outputs.history_plots import LARGE, SMALL, Run, date_of
from generalad.bench.report import STAGES, BenchReport, Gate, read_report
from generalad.errors import DataError, GadError
from generalad.files import atomic_write

ALIKE = ("batch", "threads", "source")  # settings that change the times
SHOWN = 30  # runs in a table before the rest is folded


class History(NamedTuple):
    """What was found in a folder, in the order of time; names of what is no report, and why."""

    runs: tuple[Run, ...]
    skipped: tuple[tuple[str, str], ...]


def read_history(folder: Path) -> History:
    """All `*.json` at and below `folder`; those that are no reports are skipped.

    Raises:
        DataError: there is no such folder, or no report in it.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", remedy="give the folder of the reports")
    runs, skipped = [], []
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        try:
            report = read_report(path)
            runs.append(Run(name, _moment(report), report))
        except GadError as error:
            skipped.append((name, error.message))
    if not runs:
        found = f"{len(skipped)} JSON files that are none" if skipped else "no JSON file"
        message = f"there is no bench report in {folder}: {found}"
        raise DataError(message, remedy="write reports with gad bench --json")
    runs.sort(key=lambda run: (run.when, run.name))
    return History(tuple(runs), tuple(skipped))


def _moment(report: BenchReport) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(report.when.replace("Z", "+00:00"))
    except ValueError:
        raise DataError(f"it has no time but {report.when[:40]!r}") from None
    return found if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc)


def write_history(folder: Path, page: Path) -> History:
    """Read all reports below `folder` and write the page; raises DataError and StorageError."""
    history = read_history(folder)
    with atomic_write(page) as temporary:
        temporary.write_text(render(history), encoding="utf-8", errors="replace")
    return history


def render(history: History) -> str:
    """The page as HTML."""
    styles = (("generalad.metrics", "report.css"), ("generalad.bench.outputs", "history.css"))
    style = "".join(resources.files(p).joinpath(f).read_text(encoding="utf-8") for p, f in styles)
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


def _key(report: BenchReport) -> tuple[str, ...]:
    new, machine = report.new, report.machine
    settings = (str(report.settings.get(name)) for name in ALIKE)
    where = (machine.cpu, str(machine.cores), machine.architecture, machine.gpu or "")
    return (new.name, new.precision, new.backend, *where, str(machine.threads), *settings)


def _header(history: History, series: int) -> str:
    shown = {
        "reports": len(history.runs),
        "from": date_of(history.runs[0].when),
        "to": date_of(history.runs[-1].when),
        "artifacts and machines": series,
        "skipped files": len(history.skipped),
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in shown.items())
    skipped = "".join(
        f"<li><code>{escape(name)}</code>: {escape(reason)}</li>"
        for name, reason in history.skipped
    )
    folded = _folded("Skipped, because they are no reports", f"<ul>{skipped}</ul>")
    return (
        '<header><p class="kicker">generalad bench</p><h1>Latency over time</h1>'
        f'<dl class="facts">{items}</dl>{folded if skipped else ""}</header>'
    )


def _section(runs: Sequence[Run]) -> str:
    report = runs[-1].report
    alike = {name: report.settings.get(name) for name in ALIKE}
    ran = [f"{report.new.precision} on {report.new.backend}"]
    ran += [f"{name} {text.setting_text(name, v)}" for name, v in alike.items() if v is not None]
    return (
        f"<section><h2>{escape(report.new.name)}<small>{escape(', '.join(ran))}</small></h2>"
        f'<p class="note">{escape(text.machine_text(report.machine))}</p>'
        f"{_overview(runs)}{_stages(runs)}{_table(runs)}</section>"
    )


def _overview(runs: Sequence[Run]) -> str:
    """The total, and beside it the ratios if there are any."""
    key = _legend("with 95 % intervals", median="median", p95="p95")
    paired = any(run.report.total for run in runs)
    drawn = plots.times_plot(runs, "total", LARGE if paired else (1080, LARGE[1]))
    total = _sheet("Total, ms an image", drawn, key, kind="sheet wide")
    if not paired:
        return total
    drawn, limit = plots.ratio_plot(runs)
    limits = {} if limit is None else {"limit": "limit of the last run"}
    key = _legend("change of the median, in pairs", **limits)
    return f'<div class="side">{total}{_sheet("New against old", drawn, key)}</div>'


def _stages(runs: Sequence[Run]) -> str:
    """Small plots of all else that has a course, and why some of it has none."""
    known = {stage for run in runs for stage in run.report.new.stages} - {"total"}
    ordered = [stage for stage in STAGES if stage in known] + sorted(known - set(STAGES))
    sheets = [_sheet(escape(stage), plots.times_plot(runs, stage, SMALL)) for stage in ordered]
    why_not = []
    if any(run.report.new.throughput for run in runs):
        key = _legend("more is better", median="one session", p95="most of all")
        sheets.append(_sheet("images a second", plots.throughput_plot(runs), key))
    else:
        why_not.append("Throughput is measured where an artifact is benched alone.")
    soaks = [run.report.soak for run in runs if run.report.soak is not None]
    if soaks:
        sheets.append(_sheet("drift, ms an hour", plots.drift_plot(runs, "latency")))
    else:
        why_not.append("None of these runs was a soak.")
    if any(soak.memory for soak in soaks):
        sheets.append(_sheet("drift, MB an hour", plots.drift_plot(runs, "memory")))
    elif soaks:
        why_not.append("The system did not tell the memory of the soaks.")
    note = f'<p class="note">{" ".join(why_not)}</p>' if why_not else ""
    return f'<div class="stages">{"".join(sheets)}</div>{note}'


def _legend(plain: str, **marked: str) -> str:
    """Words with the mark of their class, then plain ones."""
    marks = "".join(f'<span><i class="{k}"></i>{words}</span>' for k, words in marked.items())
    return f'<p class="key">{marks}<span>{plain}</span></p>'


def _sheet(name: str, drawn: str, key: str = "", kind: str = "sheet") -> str:
    return f'<div class="{kind}"><h3>{name}</h3>{key}{drawn}</div>'


def _folded(summary: str, inside: str) -> str:
    return f"<details><summary>{summary}</summary>{inside}</details>"


def _table(runs: Sequence[Run]) -> str:
    """All runs, the newest first."""
    numbers = "".join(f'<th class="number">{name}</th>' for name in ("median", "p95", "change"))
    head = f"<tr><th>when, UTC</th><th>artifact</th>{numbers}<th>verdict</th><th>gates</th></tr>"
    rows = [_row(run) for run in reversed(runs)]
    shown, rest = (
        f'<div class="sheet scroll"><table class="runs"><thead>{head}</thead>'
        f"<tbody>{''.join(some)}</tbody></table></div>"
        for some in (rows[:SHOWN], rows[SHOWN:])
    )
    older = len(rows) - SHOWN
    return f"<h3>Runs</h3>{shown}{_folded(f'{older} older runs', rest) if older > 0 else ''}"


def _row(run: Run) -> str:
    report, found = run.report, run.report.total
    times, which = report.new.stages.get("total"), report.new.revision or report.new.sha256
    median = text.number(times.median.value) if times else ""
    change, verdict = "", ""
    if found is not None:
        change = f"{text.change(found.ratio)}<small>{text.change_interval(found.ratio)}</small>"
        verdict = f'<td class="{found.verdict.split()[0]}">{found.verdict}</td>'
    said = [_gate(gate) for gate in report.gates]
    if report.refusal:
        verdict = '<td class="cannot">refused</td>'
        said.append(escape(report.refusal))
    return (
        f"<tr><td>{date_of(run.when)}</td><td><code>{escape(which[:12])}</code></td>"
        f'<td class="number">{median}</td><td class="number">{text.p95(times)}</td>'
        f'<td class="number">{change}</td>{verdict or "<td></td>"}<td>{"<br>".join(said)}</td></tr>'
    )


def _gate(gate: Gate) -> str:
    """Its answer; the whole reason where it is not "passed"."""
    kind = {True: "passed", False: "failed", None: "cannot"}[gate.passed]
    return (
        f'<span class="{kind}">{f"{gate.name} passed" if gate.passed else escape(str(gate))}</span>'
    )
