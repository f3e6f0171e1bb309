"""One self-contained HTML page from a folder of reports: no script, no network, safe to mail.

Only what is alike is joined by a line: the same artifact's name, precision and backend on the same
kind of machine with the same batch, threads and source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from generalad.bench.outputs import text
from generalad.bench.report import STAGES, BenchReport, read_report
from generalad.errors import DataError, GadError
from generalad.files import atomic_write
from generalad.metrics.page import folded, header, legend, page, sheet
from generalad.metrics.plots import Line, Point, runs_plot
from generalad.progress import in_words
from generalad.statistics import Estimate

UTC = timezone.utc

ALIKE = ("batch", "threads", "source")  # settings that change the times
SHOWN = 30  # runs in a table before the rest is folded

LARGE, SMALL = (720, 260), (260, 150)
"""Widths and heights; of a plot in a row of four about its pixels, so that its type can be read."""


class Run(NamedTuple):
    """A report with its time, and the name of its file within the folder."""

    name: str
    when: datetime
    report: BenchReport

    @property
    def date(self) -> str:
        """Day and time, UTC."""
        return self.when.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


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
            when = datetime.fromisoformat(report.when.replace("Z", "+00:00"))
        except GadError as error:
            skipped.append((name, error.message))
        except ValueError:
            skipped.append((name, f"it has no time but {report.when[:40]!r}"))
        else:
            runs.append(Run(name, when if when.tzinfo else when.replace(tzinfo=UTC), report))
    if not runs:
        found = f"{len(skipped)} JSON files that are none" if skipped else "no JSON file"
        message = f"there is no bench report in {folder}: {found}"
        raise DataError(message, remedy="write reports with gad bench --json")
    runs.sort(key=lambda run: (run.when, run.name))
    return History(tuple(runs), tuple(skipped))


def write_history(folder: Path, target: Path) -> History:
    """Read all reports below `folder` and write the page; raises DataError and StorageError."""
    history = read_history(folder)
    with atomic_write(target) as temporary:
        temporary.write_text(render(history), encoding="utf-8", errors="replace")
    return history


def render(history: History) -> str:
    """The page as HTML."""
    series: dict[tuple[str, ...], list[Run]] = {}
    for run in history.runs:
        series.setdefault(_key(run.report), []).append(run)
    facts = {
        "reports": str(len(history.runs)),
        "from": history.runs[0].date,
        "to": history.runs[-1].date,
        "artifacts and machines": str(len(series)),
        "skipped files": str(len(history.skipped)),
    }
    skipped = "".join(
        f"<li><code>{escape(name)}</code>: {escape(reason)}</li>"
        for name, reason in history.skipped
    )
    more = folded("Skipped, because they are no reports", f"<ul>{skipped}</ul>")
    title = "Latency over time"
    head = header("generalad bench", title, facts, more if skipped else "")
    body = head + "".join(_section(series[key]) for key in sorted(series))
    style = ("generalad.bench.outputs", "history.css")
    return page(title, body, ("generalad.metrics", "report.css"), style)


def _key(report: BenchReport) -> tuple[str, ...]:
    new, machine = report.new, report.machine
    settings = (str(report.settings.get(name)) for name in ALIKE)
    where = (machine.cpu, str(machine.cores), machine.architecture, machine.gpu or "")
    return (new.name, new.precision, new.backend, *where, str(machine.threads), *settings)


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
    compared = [run.report for run in runs if run.report.total]
    size = LARGE if compared else (1080, LARGE[1])
    key = legend("with 95 % intervals", median="median", p95="p95")
    total = sheet("Total, ms an image", _times_plot(runs, "total", size), key, kind="sheet wide")
    if not compared:
        return total
    marks, levels = {}, [(0.0, "zero")]
    limit = compared[-1].settings.get("limit")
    gated = any(gate.name == "slowdown" for gate in compared[-1].gates)
    if gated and isinstance(limit, (int, float)):
        marks, levels = {"limit": "limit of the last run"}, [*levels, (100.0 * limit, "limit")]
    shape: dict[str, Any] = {"size": (440, 276), "unit": "%", "least": 4.0, "levels": levels}
    drawn = _plot(runs, {"": _change}, "Change of the total against the old side", **shape)
    ratios = sheet("New against old", drawn, legend("change of the median, in pairs", **marks))
    return f'<div class="side">{total}{ratios}</div>'


def _stages(runs: Sequence[Run]) -> str:
    """Small plots of all else that has a course, and why some of it has none."""
    known = {stage for run in runs for stage in run.report.new.stages} - {"total"}
    ordered = sorted(known, key=lambda one: ((*STAGES, one).index(one), one))
    sheets = [sheet(escape(stage), _times_plot(runs, stage, SMALL)) for stage in ordered]
    why_not = []
    if any(run.report.new.throughput for run in runs):
        key = legend("more is better", median="one session", p95="most of all")
        kinds = {"p95": partial(_rate, most=True), "median": partial(_rate, most=False)}
        drawn = _plot(runs, kinds, "Images a second over time", least_share=0.1)
        sheets.append(sheet("images a second", drawn, key))
    else:
        why_not.append("Throughput is measured where an artifact is benched alone.")
    soaks = [run.report.soak for run in runs if run.report.soak is not None]
    units = {"latency": "ms", "memory": "MB"}
    for of in [of for of in units if any(getattr(soak, of) for soak in soaks)]:
        drawn = _plot(runs, {"": partial(_drift, of, units[of])}, f"Drift of {of} over time")
        sheets.append(sheet(f"drift, {units[of]} an hour", drawn))
    if not soaks:
        why_not.append("None of these runs was a soak.")
    elif not any(soak.memory for soak in soaks):
        why_not.append("The system did not tell the memory of the soaks.")
    note = f'<p class="note">{" ".join(why_not)}</p>' if why_not else ""
    return f'<div class="stages">{"".join(sheets)}</div>{note}'


# What a report has to show in a plot: a value, what its title says of it, and its class.

Shown = tuple[Estimate, str, str] | None


def _time(stage: str, kind: str, report: BenchReport) -> Shown:
    value = getattr(report.new.stages.get(stage), kind, None)
    return value and (value, f"{kind} {text.with_interval(value)} ms", "")


def _change(report: BenchReport) -> Shown:
    """Of the total, in percent."""
    if (found := report.total) is None:
        return None
    change = f"{text.change(found.ratio)} ({text.change_interval(found.ratio)})"
    ends = (found.ratio.value, found.ratio.low, found.ratio.high)
    value, low, high = (end if end is None else 100 * (end - 1) for end in ends)
    words = f"{change}, {found.verdict}, {text.title(report)}"
    return Estimate(value or 0.0, low, high), words, found.verdict.split()[0]


def _rate(report: BenchReport, *, most: bool) -> Shown:
    """Images a second of one session at the first batch size, or of what had the most."""
    if not (rates := report.new.throughput):
        return None
    rate = max(rates, key=lambda one: one.images_per_second.value) if most else rates[0]
    many = "one session" if rate.concurrency == 1 else f"{rate.concurrency} sessions"
    value = text.with_interval(rate.images_per_second)
    return rate.images_per_second, f"{value} images a second, batch {rate.batch}, {many}", ""


def _drift(of: str, unit: str, report: BenchReport) -> Shown:
    """The slope of a soak; red is what surely grew."""
    slope: Estimate | None = getattr(report.soak, of, None)
    if report.soak is None or slope is None:
        return None
    kind = "cannot"
    if slope.low is not None and slope.high is not None:
        kind = "slower" if slope.low > 0 else "faster" if slope.high < 0 else "same"
    took = in_words(report.soak.seconds)
    return slope, f"{text.with_interval(slope)} {unit} an hour, {took}", kind


def _times_plot(runs: Sequence[Run], stage: str, size: tuple[int, int]) -> str:
    """Median and p95 of a stage."""
    kinds = {kind: partial(_time, stage, kind) for kind in ("p95", "median")}
    return _plot(runs, kinds, f"{stage} over time", size=size, least_share=0.1)


def _plot(
    runs: Sequence[Run],
    kinds: Mapping[str, Callable[[BenchReport], Shown]],
    label: str,
    *,
    least_share: float = 0.0,
    **shape: Any,
) -> str:
    """A line a kind, or points around zero; dates below, or times of day where all are of one.

    The axis is at least `least_share` of the highest value high.
    """
    lines = [Line(kind, []) for kind in kinds]
    for line, shown in zip(lines, kinds.values(), strict=True):
        for at, run in enumerate(runs):
            if found := shown(run.report):
                value, words, kind = found
                line.points.append(Point(at, value, f"{run.date}: {words}, {run.name}", kind))
    values = [point.estimate.value for line in lines for point in line.points]
    if not values:
        return '<p class="note">not measured</p>'
    one_day = len({run.date[:10] for run in runs}) == 1
    dates = [run.date[5:] if one_day else run.date[:10] for run in runs]
    usual: dict[str, Any] = {"size": SMALL, "least": least_share * max(values)}
    if "" in kinds:
        usual |= {"levels": [(0.0, "zero")], "joined": False}
    return runs_plot(lines, dates, label, **usual | shape)


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
    return f"<h3>Runs</h3>{shown}{folded(f'{older} older runs', rest) if older > 0 else ''}"


def _row(run: Run) -> str:
    """Figures, verdict, and what gates say: the whole reason where it is not "passed"."""
    report, times = run.report, run.report.new.stages.get("total")
    change, verdict, said = "", "<td></td>", []
    if found := report.total:
        change = f"{text.change(found.ratio)}<small>{text.change_interval(found.ratio)}</small>"
        verdict = f'<td class="{found.verdict.split()[0]}">{found.verdict}</td>'
    for gate in report.gates:
        kind = {True: "passed", False: "failed", None: "cannot"}[gate.passed]
        words = f"{gate.name} passed" if gate.passed else escape(str(gate))
        said.append(f'<span class="{kind}">{words}</span>')
    if report.refusal:
        verdict = '<td class="cannot">refused</td>'
        said.append(escape(report.refusal))
    median, p95 = text.number(times.median.value) if times else "", text.p95(times)
    numbers = "".join(f'<td class="number">{number}</td>' for number in (median, p95, change))
    which = escape((report.new.revision or report.new.sha256)[:12])
    row = f"<td>{run.date}</td><td><code>{which}</code></td>{numbers}{verdict}"
    return f"<tr>{row}<td>{'<br>'.join(said)}</td></tr>"
