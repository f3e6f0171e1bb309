"""How a report's figures are put into words: the same on a terminal, in Markdown and in HTML."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple

from generalad.bench.options import duration_text
from generalad.bench.report import STAGES, BenchReport, Comparison, Machine, Side, Soak, Times
from generalad.statistics import Estimate


class StageRow(NamedTuple):
    """A stage with all that is known of it; a side without it has None."""

    stage: str
    new: Times | None
    old: Times | None
    comparison: Comparison | None


def stage_rows(report: BenchReport) -> list[StageRow]:
    """All stages of either side, in the order of an image's way."""
    old = report.old.stages if report.old else {}
    compared = {comparison.stage: comparison for comparison in report.comparisons}
    known = {**report.new.stages, **old, **compared}
    order = [stage for stage in STAGES if stage in known]
    order += [stage for stage in known if stage not in STAGES]
    return [StageRow(s, report.new.stages.get(s), old.get(s), compared.get(s)) for s in order]


def facts(report: BenchReport) -> list[tuple[str, ...]]:
    """Rows of start, memory, energy and throughput: name, the old side if there is one, the new."""
    sides = [_facts(side) for side in (report.old, report.new) if side is not None]
    names = dict.fromkeys(name for side in sides[::-1] for name in side)
    return [(name, *(side.get(name, "") for side in sides)) for name in names]


def _facts(side: Side) -> dict[str, str]:
    waiting = None if side.waiting is None else f"{100 * side.waiting:.1f}"
    found: dict[str, tuple[Estimate | float | str | None, str]] = {
        "load": (side.load, " ms"),
        "first image": (side.cold, " ms"),
        "peak memory": (side.peak_rss or None, " MB"),  # 0 where the system does not tell
        "GPU memory": (side.gpu_memory, " MB"),
        "energy": (side.energy, " J an image"),
        "waiting for cores": (waiting, " %"),
        "temperature": (side.temperature, " °C"),
    }
    for one in side.throughput:
        sessions = "" if one.concurrency == 1 else f", {one.concurrency} sessions"
        found[f"images/s, batch {one.batch}{sessions}"] = (one.images_per_second, "")
    if limit := side.roofline:
        found["share of the limit"] = (f"{100 * limit.share:.0f} %, {limit.bound}", "")
    return {name: with_interval(v) + unit for name, (v, unit) in found.items() if v is not None}


def title(report: BenchReport) -> str:
    """What was measured, against what."""
    if report.old is not None:
        return f"{report.new} against {report.old}"
    return f"{report.new} against a baseline" if report.comparisons else str(report.new)


def machine_text(machine: Machine) -> str:
    """One line about where it was measured."""
    parts = [machine.gpu, machine.cpu, f"{machine.cores} cores", machine.architecture]
    parts += [machine.system, f"Python {machine.python}"]
    return ", ".join(dict.fromkeys(part for part in parts if part))


def settings_text(report: BenchReport) -> str:
    """The settings that were given and that mattered; of a path its last part only."""
    given = [
        f"{name.replace('_', ' ')} {setting_text(name, value)}"
        for name, value in report.settings.items()
        if value is not None and (name != "limit" or report.comparisons)
    ]
    return ", ".join([*given, f"{report.seconds:.0f} s in all"])


def setting_text(name: str, value: object) -> str:
    """A setting with its unit, and without the folders of this machine."""
    if name == "limit" and isinstance(value, float):
        return f"{100 * value:g} %"
    if name == "budget" and isinstance(value, (int, float)):
        return f"{value:g} s"
    if isinstance(value, list):
        return " x ".join(str(one) for one in value)
    return PurePosixPath(PureWindowsPath(str(value)).as_posix()).name or str(value)


def soak_text(soak: Soak) -> str:
    """How latency and memory drifted."""
    memory = f", memory {_slope(soak.memory)} MB an hour" if soak.memory else ""
    return f"over {duration_text(soak.seconds)}: latency {_slope(soak.latency)} ms an hour{memory}"


def small_print(report: BenchReport) -> list[str]:
    """What puts the figures into place: the limit of the machine, its noise, what is missing."""
    found, limit, noise = [], report.new.roofline, report.machine.noise
    if limit:
        counted = f"{_scaled(limit.flops)}FLOP and {_scaled(limit.bytes)}B an image"
        reached = f"{100 * limit.share:.0f} % of the limit is reached"
        found.append(f"limit: {counted}; {limit.bound} binds, {reached}")
    if noise is not None:
        found.append(f"noise: neighbouring runs of the same thing differ by {100 * noise:.1f} %")
    missing = [*report.new.missing, *(report.old.missing if report.old else ())]
    return found + [f"not measured: {why}" for why in dict.fromkeys(missing)]


def number(value: float) -> str:
    """Three figures or three decimals; five characters from 0.001 to 99999."""
    size = abs(value)
    if 0 < size < 0.001:
        return f"{value:.1g}"
    return f"{value:.{0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 1 else 3}f}"


def with_interval(value: Estimate | float | str) -> str:
    """A value and its interval, where there is one; a text as it is."""
    if not isinstance(value, Estimate):
        return value if isinstance(value, str) else number(value)
    between = interval(value)
    return f"{number(value.value)} ({between})" if between else number(value.value)


def interval(estimate: Estimate) -> str:
    """Both ends, or nothing."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low)}…{number(estimate.high)}"


def median(times: Times | None) -> str:
    """The median, with the wider half of its interval in percent."""
    return f"{number(times.median.value)} {spread(times.median)}".rstrip() if times else ""


def p95(times: Times | None) -> str:
    """The 95 % quantile, or nothing."""
    return number(times.p95.value) if times and times.p95 else ""


def spread(estimate: Estimate) -> str:
    """The wider half of the interval in percent of the value."""
    if estimate.low is None or estimate.high is None or estimate.value <= 0:
        return ""
    wider = max(estimate.high - estimate.value, estimate.value - estimate.low)
    share = 100 * wider / estimate.value
    if share >= 999.5:
        return "±>10x"
    return f"±{share:.0f}%" if share >= 9.95 else f"±{share:.1f}%"


def change(ratio: Estimate) -> str:
    """A ratio as percent more or less."""
    return f"{_signed(ratio.value)}%"


def change_interval(ratio: Estimate) -> str:
    """The interval of a ratio as percent more or less, or nothing."""
    if ratio.low is None or ratio.high is None:
        return ""
    return f"{_signed(ratio.low)}…{_signed(ratio.high)}"


def _slope(slope: Estimate) -> str:
    known = slope.low is not None and slope.high is not None
    return f"{slope.value:+.3g}" + (f" ({slope.low:+.3g}…{slope.high:+.3g})" if known else "")


def _signed(ratio: float) -> str:
    percent = 100 * (ratio - 1)
    text = f"{percent:+.1f}" if abs(percent) < 99.95 else f"{percent:+.0f}"
    return "0.0" if text in ("-0.0", "+0.0") else text


def _scaled(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{number(value / size)} {letter}"
    return f"{number(value)} "
