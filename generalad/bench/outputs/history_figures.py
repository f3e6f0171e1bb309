"""What the history shows of its runs, as points of plots: times, ratios, throughput, drift."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Literal

from generalad.bench.outputs import wording
from generalad.bench.outputs.history_folder import Run
from generalad.bench.outputs.history_plots import Line, Point, plot
from generalad.bench.record import Comparison, Estimate, Report, Throughput, Times, Verdict

SMALL = (260, 150)
"""Width and height of a plot in a row of four: about its pixels, so that its type can be read."""


def times_plot(runs: Sequence[Run], stage: str, width: int, height: int) -> str:
    """Median and p95 of a stage, or a word that there are none."""
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
                words = f"{kind} {wording.with_interval(estimate)} ms"
                points.append(Point(at, estimate, _title(run, words)))
        lines.append(Line(kind, points))
    values = [point.estimate.value for line in lines for point in line.points]
    if not values:
        return '<p class="note">not measured</p>'
    label, least = f"{stage} over time", 0.1 * max(values)
    return plot(lines, _labels(runs), label, width=width, height=height, least=least)


def ratio_plot(runs: Sequence[Run]) -> tuple[str, float | None]:
    """The change of total in each comparison, in percent; and the limit that is drawn, if any."""
    points, limit = [], None
    for at, run in enumerate(runs):
        found = compared(run.report)
        if found is None:
            continue
        change = f"{wording.change(found.ratio)} ({wording.change_interval(found.ratio)})"
        title = f"{date_of(run.when)}: {change}, {found.verdict}, {wording.title(run.report)}"
        points.append(Point(at, _percent(found.ratio), title, kind_of(found.verdict)))
        limit = _limit(run.report)
    drawn = plot(
        [Line("", points)],
        _labels(runs),
        "Change of the total against the old side",
        width=440,
        height=276,
        unit="%",
        levels=[(0.0, "zero"), *([] if limit is None else [(100 * limit, "limit")])],
        joined=False,
        least=4.0,
    )
    return drawn, limit


def throughput_plot(runs: Sequence[Run]) -> str:
    """InputImages a second of one session at the first batch size, and of what had the most."""
    one, most = [], []
    for at, run in enumerate(runs):
        rates = run.report.new.throughput
        if rates:
            one.append(_rate(at, run, rates[0]))
            most.append(_rate(at, run, max(rates, key=lambda r: r.images_per_second.value)))
    lines = [Line("p95", most), Line("median", one)]
    least = 0.1 * max(point.estimate.value for point in most)
    label = "InputImages a second over time"
    return plot(lines, _labels(runs), label, width=SMALL[0], height=SMALL[1], least=least)


def drift_plot(runs: Sequence[Run], of: Literal["latency", "memory"]) -> str:
    """Slopes of the soaks; red is what surely grew."""
    unit = {"latency": "ms", "memory": "MB"}[of]
    points = []
    for at, run in enumerate(runs):
        soak = run.report.soak
        slope = getattr(soak, of) if soak else None
        if soak and slope:
            words = f"{wording.with_interval(slope)} {unit} an hour, {soak.seconds / 60:.0f} min"
            points.append(Point(at, slope, _title(run, words), _grown(slope)))
    return plot(
        [Line("", points)],
        _labels(runs),
        f"Drift of {of} over time",
        width=SMALL[0],
        height=SMALL[1],
        levels=[(0.0, "zero")],
        joined=False,
    )


def compared(report: Report) -> Comparison | None:
    """The comparison of the total, if there was one."""
    return next((one for one in report.comparisons if one.stage == "total"), None)


def kind_of(verdict: Verdict) -> str:
    """The class of the page's style that a verdict has."""
    return verdict.split(maxsplit=1)[0]


def date_of(when: datetime.datetime) -> str:
    """Day and time, UTC."""
    return when.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")


def _rate(at: int, run: Run, rate: Throughput) -> Point:
    sessions = "one session" if rate.concurrency == 1 else f"{rate.concurrency} sessions"
    value = wording.with_interval(rate.images_per_second)
    words = f"{value} images a second, batch {rate.batch}, {sessions}"
    return Point(at, rate.images_per_second, _title(run, words))


def _grown(slope: Estimate) -> str:
    if slope.low is None or slope.high is None:
        return "cannot"
    return "slower" if slope.low > 0 else "faster" if slope.high < 0 else "same"


def _title(run: Run, words: str) -> str:
    return f"{date_of(run.when)}: {words}, {run.name}"


def _limit(report: Report) -> float | None:
    """The slowdown that was allowed; None where there was no gate on it."""
    limit = report.settings.get("limit")
    gated = any(gate.name == "slowdown" for gate in report.gates)
    return float(limit) if gated and isinstance(limit, (int, float)) else None


def _percent(ratio: Estimate) -> Estimate:
    ends = (None if end is None else 100 * (end - 1) for end in (ratio.low, ratio.high))
    return Estimate(100 * (ratio.value - 1), *ends)


def _labels(runs: Sequence[Run]) -> list[str]:
    """Dates for the axis, or times of day where all runs are of one."""
    moments = [date_of(run.when) for run in runs]
    one_day = len({moment[:10] for moment in moments}) == 1
    return [moment[5:] if one_day else moment[:10] for moment in moments]
