"""What the history shows of its runs, as points of plots: times, ratios, throughput, drift."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from generalad.bench.options import duration_text
from generalad.bench.outputs import text
from generalad.bench.report import BenchReport
from generalad.metrics.plots import Line, Point, runs_plot
from generalad.statistics import Estimate

LARGE, SMALL = (720, 260), (260, 150)
"""Widths and heights; of a plot in a row of four about its pixels, so that its type can be read."""


class Run(NamedTuple):
    """A report with its time, and the name of its file within the folder."""

    name: str
    when: datetime.datetime
    report: BenchReport

    def point(self, at: int, value: Estimate, words: str, kind: str = "") -> Point:
        """Of a plot."""
        return Point(at, value, f"{date_of(self.when)}: {words}, {self.name}", kind)


def times_plot(runs: Sequence[Run], stage: str, size: tuple[int, int]) -> str:
    """Median and p95 of a stage, or a word that there are none."""
    lines = []
    for kind in ("p95", "median"):
        found = [getattr(run.report.new.stages.get(stage), kind, None) for run in runs]
        points = [
            run.point(at, value, f"{kind} {text.with_interval(value)} ms")
            for at, (run, value) in enumerate(zip(runs, found, strict=True))
            if value is not None
        ]
        lines.append(Line(kind, points))
    values = [point.estimate.value for line in lines for point in line.points]
    if not values:
        return '<p class="note">not measured</p>'
    return _plot(runs, lines, f"{stage} over time", size=size, least=0.1 * max(values))


def ratio_plot(runs: Sequence[Run]) -> tuple[str, float | None]:
    """The change of total in each comparison, in percent; and the limit that is drawn, if any."""
    points, limit = [], None
    for at, run in enumerate(runs):
        if found := run.report.total:
            change = f"{text.change(found.ratio)} ({text.change_interval(found.ratio)})"
            words = f"{change}, {found.verdict}, {text.title(run.report)}"
            low, high = (
                e if e is None else 100 * (e - 1) for e in (found.ratio.low, found.ratio.high)
            )
            percents = Estimate(100 * (found.ratio.value - 1), low, high)
            title = f"{date_of(run.when)}: {words}"
            points.append(Point(at, percents, title, found.verdict.split()[0]))
            gated = any(gate.name == "slowdown" for gate in run.report.gates)
            asked = run.report.settings.get("limit")
            limit = float(asked) if gated and isinstance(asked, (int, float)) else None
    levels = [(0.0, "zero"), *([] if limit is None else [(100 * limit, "limit")])]
    shape = {"size": (440, 276), "unit": "%", "joined": False, "least": 4.0}
    label = "Change of the total against the old side"
    return _plot(runs, [Line("", points)], label, levels=levels, **shape), limit


def throughput_plot(runs: Sequence[Run]) -> str:
    """Images a second of one session at the first batch size, and of what had the most."""
    lines = [Line("p95", []), Line("median", [])]
    for at, run in enumerate(runs):
        if rates := run.report.new.throughput:
            most = max(rates, key=lambda rate: rate.images_per_second.value)
            for line, rate in zip(lines, (most, rates[0]), strict=True):
                many = "one session" if rate.concurrency == 1 else f"{rate.concurrency} sessions"
                value = rate.images_per_second
                words = f"{text.with_interval(value)} images a second, batch {rate.batch}, {many}"
                line.points.append(run.point(at, value, words))
    least = 0.1 * max(point.estimate.value for point in lines[0].points)
    return _plot(runs, lines, "Images a second over time", size=SMALL, least=least)


def drift_plot(runs: Sequence[Run], of: Literal["latency", "memory"]) -> str:
    """Slopes of the soaks; red is what surely grew."""
    unit, points = {"latency": "ms", "memory": "MB"}[of], []
    for at, run in enumerate(runs):
        soak = run.report.soak
        slope: Estimate | None = getattr(soak, of, None)
        if soak and slope:
            took = duration_text(soak.seconds)
            kind = "cannot"
            if slope.low is not None and slope.high is not None:
                kind = "slower" if slope.low > 0 else "faster" if slope.high < 0 else "same"
            words = f"{text.with_interval(slope)} {unit} an hour, {took}"
            points.append(run.point(at, slope, words, kind))
    shape = {"size": SMALL, "levels": [(0.0, "zero")], "joined": False}
    return _plot(runs, [Line("", points)], f"Drift of {of} over time", **shape)


def date_of(when: datetime.datetime) -> str:
    """Day and time, UTC."""
    return when.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")


def _plot(runs: Sequence[Run], lines: Sequence[Line], label: str, **shape: Any) -> str:
    """With dates for the axis, or times of day where all runs are of one."""
    moments = [date_of(run.when) for run in runs]
    one_day = len({moment[:10] for moment in moments}) == 1
    dates = [moment[5:] if one_day else moment[:10] for moment in moments]
    return runs_plot(lines, dates, label, **shape)
