"""How a report's figures are put into words: the same on a terminal, in Markdown and in HTML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from generalad.bench.record import (
    STAGES,
    Comparison,
    Estimate,
    Gate,
    Limit,
    Machine,
    Report,
    Side,
    Soak,
    Times,
)


@dataclass(frozen=True)
class StageRow:
    """A stage with all that is known of it; a side without it has None."""

    stage: str
    new: Times | None
    old: Times | None
    comparison: Comparison | None


@dataclass(frozen=True)
class Fact:
    """A figure of both sides besides the stages; empty where there is none."""

    name: str
    new: str
    old: str


def stage_rows(report: Report) -> list[StageRow]:
    """All stages of either side, in the order of an image's way."""
    old = report.old.stages if report.old else {}
    compared = {comparison.stage: comparison for comparison in report.comparisons}
    known = {**report.new.stages, **old, **compared}
    order = [stage for stage in STAGES if stage in known]
    order += [stage for stage in known if stage not in STAGES]
    return [StageRow(s, report.new.stages.get(s), old.get(s), compared.get(s)) for s in order]


def facts(report: Report) -> list[Fact]:
    """Start, memory, energy and throughput of both sides; without those that neither has."""
    sides = [_facts(report.new), _facts(report.old) if report.old else {}]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return [Fact(name, sides[0].get(name, ""), sides[1].get(name, "")) for name in names]


def _facts(side: Side) -> dict[str, str]:
    found = {
        "load": f"{with_interval(side.load)} ms",
        "first image": f"{with_interval(side.cold)} ms",
    }
    if side.peak_rss:  # 0 where the system does not tell
        found["peak memory"] = f"{number(side.peak_rss)} MB"
    if side.gpu_memory is not None:
        found["GPU memory"] = f"{number(side.gpu_memory)} MB"
    if side.energy is not None:
        found["energy"] = f"{number(side.energy)} J an image"
    if side.waiting is not None:
        found["waiting for cores"] = f"{100 * side.waiting:.1f} %"
    if side.temperature is not None:
        found["temperature"] = f"{number(side.temperature)} °C"
    for one in side.throughput:
        sessions = "" if one.concurrency == 1 else f", {one.concurrency} sessions"
        found[f"images/s, batch {one.batch}{sessions}"] = with_interval(one.images_per_second)
    if side.limit is not None:
        found["share of the limit"] = f"{100 * side.limit.share:.0f} %, {side.limit.bound}"
    return found


def limit_in_words(limit: Limit) -> str:
    """What was counted, what binds, and how much of it is reached."""
    counted = f"{_scaled(limit.flops)}FLOP and {_scaled(limit.bytes)}B an image"
    reached = f"{100 * limit.share:.0f} % of the limit is reached"
    return f"limit: {counted}; {limit.bound} binds, {reached}"


def title(report: Report) -> str:
    """What was measured, against what."""
    new = side_name(report.new)
    if report.old is not None:
        return f"{new} against {side_name(report.old)}"
    return f"{new} against a baseline" if report.comparisons else new


def side_name(side: Side) -> str:
    """The artifact's name, with the project's revision where checkouts are compared."""
    return f"{side.name} at {side.revision}" if side.revision else side.name


def machine_in_words(machine: Machine) -> str:
    """One line about where it was measured."""
    parts = [machine.gpu, machine.cpu, f"{machine.cores} cores", machine.architecture]
    parts += [machine.system, f"Python {machine.python}"]
    return ", ".join(dict.fromkeys(part for part in parts if part))


def settings_in_words(report: Report) -> str:
    """The settings that were given and that mattered; of a path its last part only."""
    given = [
        f"{name.replace('_', ' ')} {setting_in_words(name, value)}"
        for name, value in report.settings.items()
        if value is not None and (name != "limit" or report.comparisons)
    ]
    return ", ".join([*given, f"{report.seconds:.0f} s in all"])


def setting_in_words(name: str, value: object) -> str:
    """A setting with its unit, and without the folders of this machine."""
    if name == "limit" and isinstance(value, float):
        return f"{100 * value:g} %"
    if name == "budget" and isinstance(value, (int, float)):
        return f"{value:g} s"
    if isinstance(value, list):
        return " x ".join(str(one) for one in value)
    text = str(value)
    return PurePosixPath(PureWindowsPath(text).as_posix()).name or text


def noise_in_words(machine: Machine) -> str:
    """How restless the machine was; empty where it was not measured."""
    if machine.noise is None:
        return ""
    return f"noise: neighbouring runs of the same thing differ by {100 * machine.noise:.1f} %"


def soak_in_words(soak: Soak) -> str:
    """How latency and memory drifted."""
    latency = f"latency {_slope(soak.latency)} ms an hour"
    memory = f", memory {_slope(soak.memory)} MB an hour" if soak.memory else ""
    return f"over {soak.seconds / 60:.0f} min: {latency}{memory}"


def small_print(report: Report) -> list[str]:
    """What puts the figures into place: the limit of the machine, its noise, what is missing."""
    limit = report.new.limit
    missing = [*report.new.missing, *(report.old.missing if report.old else ())]
    found = [
        limit_in_words(limit) if limit else "",
        noise_in_words(report.machine),
        *(f"not measured: {why}" for why in dict.fromkeys(missing)),
    ]
    return [line for line in found if line]


def gate_in_words(gate: Gate) -> str:
    """Which limit, and why its answer is as it is."""
    return f"{gate.name}: {gate.sentence}"


def number(value: float) -> str:
    """Three figures or three decimals; five characters from 0.001 to 99999."""
    size = abs(value)
    if 0 < size < 0.001:
        return f"{value:.1g}"
    return f"{value:.{0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 1 else 3}f}"


def with_interval(estimate: Estimate) -> str:
    """A value and its interval, where there is one."""
    between = interval(estimate)
    return f"{number(estimate.value)} ({between})" if between else number(estimate.value)


def interval(estimate: Estimate) -> str:
    """Both ends, or nothing."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low)}…{number(estimate.high)}"


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
    ends = (
        "" if slope.low is None or slope.high is None else f" ({slope.low:+.3g}…{slope.high:+.3g})"
    )
    return f"{slope.value:+.3g}{ends}"


def _signed(ratio: float) -> str:
    percent = 100 * (ratio - 1)
    text = f"{percent:+.1f}" if abs(percent) < 99.95 else f"{percent:+.0f}"
    return "0.0" if text in ("-0.0", "+0.0") else text


def _scaled(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{number(value / size)} {letter}"
    return f"{number(value)} "
