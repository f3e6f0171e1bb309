"""One self-contained HTML page from a folder of reports: no script, no network, safe to mail.

Only what is alike is joined by a line: the same artifact's name, precision and backend on the same
kind of machine with the same batch, threads and source. Absolute times still move with the machine;
the ratios were measured in pairs and do not.
"""

from __future__ import annotations

import datetime
import html
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from generalad.bench.outputs import wording
from generalad.bench.outputs.history_folder import History, Run, read_history
from generalad.bench.outputs.history_plots import Line, Point, plot
from generalad.bench.record import STAGES, Comparison, Estimate, Gate, Report, Times
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
    first, last = (_date(history.runs[i].when) for i in (0, -1))
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
    total = (
        '<div class="sheet"><h3>Total, ms a picture</h3><p class="key">'
        '<span><i class="median"></i>median</span><span><i class="p95"></i>p95</span>'
        f"<span>with 95 % intervals</span></p>{_times_plot(runs, 'total', 720, 260)}</div>"
    )
    ratios = _ratio_plot(runs)
    return f'<div class="side">{total}{ratios}</div>'


def _ratio_plot(runs: Sequence[Run]) -> str:
    """The change of total in each comparison, in percent."""
    points, limits = [], []
    for at, run in enumerate(runs):
        found = _compared(run.report)
        if found is None:
            continue
        title = (
            f"{_date(run.when)}: {wording.change(found.ratio)} "
            f"({wording.change_interval(found.ratio)}), {found.verdict}, "
            f"{wording.title(run.report)}"
        )
        kind = found.verdict.split(maxsplit=1)[0]
        points.append(Point(at, _percent(found.ratio), title, kind))
        limits.append(_limit(run.report))
    if not points:
        return ""
    levels = [(0.0, "zero")]
    key = "<span>change of the median, in pairs</span>"
    if (limit := limits[-1]) is not None:
        levels.append((100 * limit, "limit"))
        key += '<span><i class="limit"></i>limit of the last run</span>'
    dates = _labels(runs)
    drawn = plot(
        [Line("", points)],
        dates,
        "Change of the total against the old side",
        width=440,
        height=276,
        unit="%",
        levels=levels,
        joined=False,
        least=4.0,
    )
    return f'<div class="sheet"><h3>New against old</h3><p class="key">{key}</p>{drawn}</div>'


def _stages(runs: Sequence[Run]) -> str:
    known = {stage for run in runs for stage in run.report.new.stages}
    ordered = [stage for stage in STAGES if stage in known] + sorted(known - set(STAGES))
    plots = {stage: _times_plot(runs, stage, 340, 170) for stage in ordered if stage != "total"}
    sheets = [
        f'<div class="sheet"><h3>{html.escape(stage)}</h3>{drawn}</div>'
        for stage, drawn in plots.items()
    ]
    return f'<div class="stages">{"".join(sheets)}</div>'


def _times_plot(runs: Sequence[Run], stage: str, width: int, height: int) -> str:
    quantiles: list[tuple[str, Callable[[Times], Estimate | None]]] = [
        ("p95", lambda times: times.p95),
        ("median", lambda times: times.median),
    ]
    lines = []
    for kind, of in quantiles:
        points = []
        for at, run in enumerate(runs):
            times = run.report.new.stages.get(stage)
            estimate = of(times) if times else None
            if estimate is not None:
                text = f"{_date(run.when)}: {kind} {wording.with_interval(estimate)} ms, {run.name}"
                points.append(Point(at, estimate, text))
        lines.append(Line(kind, points))
    values = [point.estimate.value for line in lines for point in line.points]
    if not values:
        return '<p class="note">not measured</p>'
    return plot(
        lines,
        _labels(runs),
        f"{stage} over time",
        width=width,
        height=height,
        least=0.1 * max(values),
    )


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
    report, found = run.report, _compared(run.report)
    total = report.new.stages.get("total")
    median = wording.number(total.median.value) if total else ""
    p95 = wording.number(total.p95.value) if total and total.p95 else ""
    which = report.new.revision or report.new.sha256
    change, verdict, kind = "", "", ""
    if found is not None:
        change = (
            f"{wording.change(found.ratio)}<small>{wording.change_interval(found.ratio)}</small>"
        )
        verdict, kind = found.verdict, found.verdict.split(maxsplit=1)[0]
    gates = "<br>".join(_gate(gate) for gate in report.gates)
    return (
        f"<tr><td>{_date(run.when)}</td><td><code>{html.escape(which[:12])}</code></td>"
        f'<td class="number">{median}</td><td class="number">{p95}</td>'
        f'<td class="number">{change}</td><td class="{kind}">{verdict}</td><td>{gates}</td></tr>'
    )


def _gate(gate: Gate) -> str:
    """Its answer; the whole sentence where it is not "passed"."""
    kind = {True: "passed", False: "failed", None: "cannot"}[gate.passed]
    text = f"{gate.name} passed" if gate.passed else html.escape(wording.gate_in_words(gate))
    return f'<span class="{kind}">{text}</span>'


def _limit(report: Report) -> float | None:
    """The slowdown that was allowed; None where there was no gate on it."""
    limit = report.settings.get("limit")
    gated = any(gate.name == "slowdown" for gate in report.gates)
    return float(limit) if gated and isinstance(limit, (int, float)) else None


def _compared(report: Report) -> Comparison | None:
    return next((one for one in report.comparisons if one.stage == "total"), None)


def _percent(ratio: Estimate) -> Estimate:
    ends = (None if end is None else 100 * (end - 1) for end in (ratio.low, ratio.high))
    return Estimate(100 * (ratio.value - 1), *ends)


def _labels(runs: Sequence[Run]) -> list[str]:
    """Dates for the axis, or times of day where all runs are of one."""
    moments = [_date(run.when) for run in runs]
    one_day = len({moment[:10] for moment in moments}) == 1
    return [moment[5:] if one_day else moment[:10] for moment in moments]


def _date(when: datetime.datetime) -> str:
    return when.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
