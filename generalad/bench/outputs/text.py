"""How a report's figures are put into words and rows: the same in every output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple

from generalad.bench.report import STAGES, BenchReport, Machine, Side, Soak, Times
from generalad.progress import in_words
from generalad.statistics import Estimate

Rows = list[list[str]]


class Fact(NamedTuple):
    """What is known of a side beside its stages."""

    name: str
    value: Estimate | float | str
    unit: str = ""


def stages(report: BenchReport) -> list[str]:
    """The stages of either side, in the order of an image's way."""
    old = report.old.stages if report.old else {}
    known = dict.fromkeys([*report.new.stages, *old, *(one.stage for one in report.comparisons)])
    return sorted(known, key=lambda stage: (*STAGES, stage).index(stage))


def stage_rows(report: BenchReport, *, with_p95: bool) -> Rows:
    """A heading and a row a stage: medians of the sides, p95 if wanted, change and verdict.

    A space behind p95 parts the sides.
    """
    sides = {"new": report.new.stages}
    if report.old:
        sides = {"old": report.old.stages, **sides}
    compared = {one.stage: one for one in report.comparisons}
    heading = ["ms"]
    for name in sides if compared or report.old else ["median"]:
        heading += [name, "p95 "] if with_p95 else [name]
    rows = [heading + (["change", "95 %", ""] if compared else [])]
    for stage in stages(report):
        row = [stage]
        for times in (of.get(stage) for of in sides.values()):
            row += [median(times), f"{p95(times)} "] if with_p95 else [median(times)]
        if found := compared.get(stage):
            row += [change(found.ratio), change_interval(found.ratio), found.verdict]
        rows.append(row + [""] * (len(rows[0]) - len(row)))
    return rows


def side_facts(side: Side) -> list[Fact]:
    """Start, memory, energy and the like of one side, as far as they are known."""
    found = [
        ("load", side.load, "ms"),
        ("first image", side.cold, "ms"),
        ("peak memory", side.peak_rss or None, "MB"),  # 0 where the system does not tell
        ("GPU memory", side.gpu_memory, "MB"),
        ("energy", side.energy, "J an image"),
        ("waiting for cores", None if side.waiting is None else f"{100 * side.waiting:.1f}", "%"),
        ("temperature", side.temperature, "°C"),
    ]
    facts = [Fact(name, value, unit) for name, value, unit in found if value is not None]
    for one in side.throughput:
        sessions = "" if one.concurrency == 1 else f", {one.concurrency} sessions"
        facts.append(Fact(f"images/s, batch {one.batch}{sessions}", one.images_per_second))
    if limit := side.roofline:
        facts.append(Fact("share of the limit", f"{100 * limit.share:.0f} %, {limit.bound}"))
    return facts


def fact_rows(report: BenchReport) -> Rows:
    """A heading and a row a fact: its name, the old side if there is one, the new."""
    sides = [side for side in (report.old, report.new) if side is not None]
    found = [
        {fact.name: f"{with_interval(fact.value)} {fact.unit}".rstrip() for fact in side_facts(one)}
        for one in sides
    ]
    names = dict.fromkeys(name for side in found[::-1] for name in side)
    rows = [[name, *(side.get(name, "") for side in found)] for name in names]
    return [["", "old", "new"] if report.old else ["", ""], *rows]


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
    return f"over {in_words(soak.seconds)}: latency {_slope(soak.latency)} ms an hour{memory}"


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


def interval(estimate: Estimate, show: Callable[[float], str] = number) -> str:
    """Both ends, or nothing."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{show(estimate.low)}…{show(estimate.high)}"


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
    return interval(ratio, _signed)


def _slope(slope: Estimate) -> str:
    between = interval(slope, "{:+.3g}".format)
    return f"{slope.value:+.3g}" + (f" ({between})" if between else "")


def _signed(ratio: float) -> str:
    percent = 100 * (ratio - 1)
    text = f"{percent:+.1f}" if abs(percent) < 99.95 else f"{percent:+.0f}"
    return "0.0" if text in ("-0.0", "+0.0") else text


def _scaled(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{number(value / size)} {letter}"
    return f"{number(value)} "
