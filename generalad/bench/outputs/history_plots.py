"""The history's plots as inline SVG; colours and type come from the page's style by classes.

Runs stand side by side in the order of their time, not at their distance in time: results of one
busy day would be one stroke otherwise. What a point is, its title says (no script).
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from generalad.bench.record import Estimate
from generalad.metrics.plots import nice_ticks

_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 36, 12, 30
_LABEL = 84
"""Room for a date, in user units; half of one fits to the right of the axis."""


@dataclass(frozen=True)
class Point:
    """A run in a plot: which one, its value with interval, what its title says."""

    run: int
    estimate: Estimate
    title: str
    kind: str = ""


@dataclass(frozen=True)
class Line:
    """Points that belong together; `kind` is their class."""

    kind: str
    points: Sequence[Point]


def plot(
    lines: Sequence[Line],
    dates: Sequence[str],
    label: str,
    *,
    width: int = 720,
    height: int = 260,
    unit: str = "",
    levels: Sequence[tuple[float, str]] = (),
    joined: bool = True,
    least: float = 0.0,
) -> str:
    """Lines over runs, with whiskers for intervals.

    Args:
        lines: at least one, with at least one point between them.
        dates: of all runs, for the axis below.
        label: what the plot shows, for those who do not see it.
        width: of the view box.
        height: of the view box.
        unit: after the figures of the axis.
        levels: horizontal lines, each with its class.
        joined: connect the points of a line.
        least: height of the axis at least, so that noise does not look like a mountain range.
    """
    axes = _Axes(width, height, len(dates), _range(lines, levels, least))
    content = [axes.frame(dates, unit)]
    for value, kind in levels:
        y = axes.y(value)
        content.append(f'<path class="level {kind}" d="M{_LEFT} {y:.1f}H{width - _RIGHT}"/>')
    for line in lines:
        content.append(_drawn(line, axes, joined))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(label)}">'
        f"{''.join(content)}</svg>"
    )


def _drawn(line: Line, axes: _Axes, joined: bool) -> str:
    parts = []
    if joined and len(line.points) > 1:
        way = "L".join(f"{axes.x(p.run):.1f} {axes.y(p.estimate.value):.1f}" for p in line.points)
        parts.append(f'<path class="line" d="M{way}"/>')
    radius = 3.2 if axes.runs <= 60 else 2
    for point in line.points:
        x, found = axes.x(point.run), point.estimate
        marks = f'<circle cx="{x:.1f}" cy="{axes.y(found.value):.1f}" r="{radius}"/>'
        if found.low is not None and found.high is not None:
            marks = (
                f'<path class="whisker" d="M{x:.1f} {axes.y(found.low):.1f}'
                f'V{axes.y(found.high):.1f}"/>{marks}'
            )
        title = html.escape(point.title)
        parts.append(f'<g class="{point.kind}"><title>{title}</title>{marks}</g>')
    return f'<g class="{line.kind}">{"".join(parts)}</g>'


@dataclass(frozen=True)
class _Axes:
    """Runs from left to right, values upwards."""

    width: int
    height: int
    runs: int
    values: tuple[float, float]

    def x(self, run: int) -> float:
        return _LEFT + (run + 0.5) / self.runs * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.values
        share = (value - low) / (high - low)
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)

    def frame(self, dates: Sequence[str], unit: str) -> str:
        base, end = self.height - _BOTTOM, self.width - _RIGHT
        parts = []
        for tick in nice_ticks(*self.values, self.height // 36):
            y = self.y(float(tick))
            parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{end}"/>')
            parts.append(_text(_LEFT - 6, y + 3.5, f"{tick:g}{unit}", "end"))
        for run in _spaced(len(dates), (end - _LEFT) // _LABEL):
            x = self.x(run)
            parts.append(f'<path class="axis" d="M{x:.1f} {base}v4"/>')
            parts.append(_text(x, base + 17, dates[run], "middle"))
        parts.append(f'<path class="axis" d="M{_LEFT} {base}H{end}"/>')
        return "".join(parts)


def _range(
    lines: Sequence[Line], levels: Sequence[tuple[float, str]], least: float
) -> tuple[float, float]:
    """From the lowest to the highest thing that is drawn, and a little more."""
    values = [value for value, _ in levels]
    for line in lines:
        for point in line.points:
            found = point.estimate
            ends = (found.low, found.value, found.high)
            values += [value for value in ends if value is not None]
    low, high = min(values), max(values)
    missing = max(0.0, least - (high - low), 1e-9 * max(1.0, abs(high)) - (high - low))
    margin = missing / 2 + 0.06 * (high - low + missing)
    return low - margin, high + margin


def _spaced(runs: int, most: int) -> list[int]:
    """Some of the runs, at even distances, the last one always."""
    step = -(-runs // max(1, most))
    return list(range(runs - 1, -1, -step))[::-1]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
