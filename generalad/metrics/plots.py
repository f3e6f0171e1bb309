"""Plots as inline SVG; colours and type come from the page's style through classes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.statistics import Estimate

Floats = NDArray[np.float64]

_BINS = 40
_DATE = 84  # room for one, in user units; half of it fits to the right of the axis


@dataclass(frozen=True)
class _Axes:
    """A plot area inside a view box, in its user units; y grows upwards in data, not in SVG."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    left: int = 56
    right: int = 14
    top: int = 14
    bottom: int = 42

    def x(self, value: float) -> float:
        low, high = self.x_range
        inner = self.width - self.left - self.right
        return self.left + (value - low) / (high - low) * inner

    def y(self, value: float) -> float:
        low, high = self.y_range
        inner = self.height - self.top - self.bottom
        return self.height - self.bottom - (value - low) / (high - low) * inner

    def path(self, points: Floats) -> str:
        return "M" + "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)

    def svg(self, content: Sequence[str], label: str) -> str:
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{html.escape(label)}">{"".join(content)}</svg>'
        )

    def frame(self, x_ticks: Floats, y_ticks: Floats, x_name: str, y_name: str, y_unit: str) -> str:
        base = self.height - self.bottom
        parts = []
        for tick in y_ticks:
            y = self.y(float(tick))
            parts.append(f'<path class="grid" d="M{self.left} {y:.1f}H{self.width - self.right}"/>')
            parts.append(_text(self.left - 7, y + 3.5, f"{tick:g}{y_unit}", "end"))
        for tick in x_ticks:
            x = self.x(float(tick))
            parts.append(f'<path class="axis" d="M{x:.1f} {base}v4"/>')
            parts.append(_text(x, base + 17, f"{tick:g}", "middle"))
        parts.append(f'<path class="axis" d="M{self.left} {base}H{self.width - self.right}"/>')
        centre = (self.left + self.width - self.right) / 2
        parts.append(_text(centre, self.height - 6, x_name, "middle"))
        middle = (self.top + base) / 2
        parts.append(
            f'<text transform="translate(11 {middle:.1f}) rotate(-90)" text-anchor="middle">'
            f"{html.escape(y_name)}</text>"
        )
        return "".join(parts)


def score_histogram(good: Floats, defective: Floats, threshold: float, normalised: Floats) -> str:
    """Shares of good and of defective images over the raw score, normalised scores on top.

    `normalised` (n, 2) holds pairs of raw and normalised score.
    """
    everything = np.concatenate([good, defective, [threshold]])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.04 * (high - low) or 1.0
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    shares = [100 * np.histogram(s, edges)[0] / max(1, s.size) for s in (good, defective)]
    tallest = max(float(share.max()) for share in shares) or 1.0
    axes = _Axes(720, 300, (edges[0], edges[-1]), (0, 1.12 * tallest), top=40)
    y_ticks = nice_ticks(0, tallest, 4)
    content = [
        axes.frame(nice_ticks(edges[0], edges[-1], 8), y_ticks, "raw score", "share of class", " %")
    ]
    for share, kind in zip(shares, ("good", "defective"), strict=True):
        if share.any():
            corners = np.stack([np.repeat(edges, 2)[1:-1], np.repeat(share, 2)], axis=1)
            closed = np.concatenate([[[edges[0], 0]], corners, [[edges[-1], 0]]])
            content.append(f'<path class="area {kind}" d="{axes.path(closed)}Z"/>')
    content.append(_normalised_axis(axes, threshold, normalised))
    x, base = axes.x(threshold), axes.height - axes.bottom
    content.append(f'<path class="threshold" d="M{x:.1f} {axes.top}V{base}"/>')
    anchor, shift = ("end", -6) if x > axes.width / 2 else ("start", 6)
    content.append(_text(x + shift, axes.top + 12, f"threshold {threshold:.4g}", anchor, "strong"))
    return axes.svg(content, "Distribution of scores of good and defective images")


def curve(
    points: Floats,
    names: tuple[str, str],
    *,
    x_limit: float = 1.0,
    mark: tuple[float, float] | None = None,
    filled: bool = False,
) -> str:
    """A curve (points, 2) over the unit square, cut at `x_limit`, with the operating point."""
    axes = _Axes(340, 300, (0, x_limit), (0, 1))
    ticks = np.linspace(0, x_limit, 6) if x_limit == 1 else nice_ticks(0, x_limit, 4)
    content = [axes.frame(ticks, np.linspace(0, 1, 6), *names, "")]
    inside = points[points[:, 0] <= x_limit]
    if len(inside) < len(points):
        end = float(np.interp(x_limit, points[:, 0], points[:, 1]))
        inside = np.concatenate([inside, [[x_limit, end]]])
    if filled and len(inside):
        closed = np.concatenate([inside, [[inside[-1, 0], 0], [inside[0, 0], 0]]])
        content.append(f'<path class="fill" d="{axes.path(closed)}Z"/>')
    if len(inside):
        content.append(f'<path class="curve" d="{axes.path(inside)}"/>')
    if mark is not None:
        x, y = axes.x(mark[0]), axes.y(mark[1])
        content.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
    return axes.svg(content, f"{names[1]} against {names[0]}")


def series(points: Floats, names: tuple[str, str]) -> str:
    """A line through points (n, 2), rising in x, between the lowest and the highest of them."""
    (left, low), (right, high) = points.min(axis=0), points.max(axis=0)
    if right == left:
        left, right = left - 1, right + 1
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    axes = _Axes(720, 260, (left, right), (low - margin, high + margin), left=68)
    ticks = nice_ticks(left, right, 8), nice_ticks(low - margin, high + margin, 5)
    drawn = f'<path class="curve" d="{axes.path(points)}"/>'
    if len(points) == 1:
        drawn = f'<circle class="mark" cx="{axes.x(points[0, 0]):.1f}"'
        drawn += f' cy="{axes.y(points[0, 1]):.1f}" r="3"/>'
    return axes.svg([axes.frame(*ticks, *names, ""), drawn], f"{names[1]} against {names[0]}")


def interval_bar(value: float, low: float, high: float) -> str:
    """A value and its interval on a line from 0 to 1."""
    if not np.isfinite([value, low, high]).all():
        return ""
    width = max(high - low, 0.004)
    return (
        '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" x="0" y="2.4" width="100" height="1.2"/>'
        f'<rect class="range" x="{100 * low:.2f}" y="1.4" width="{100 * width:.2f}" height="3.2"/>'
        f'<rect class="value" x="{100 * value - 0.5:.2f}" y="0" width="1" height="6"/></svg>'
    )


class Point(NamedTuple):
    """A run in a plot: which one, its value with interval, what its title says, its class."""

    run: int
    estimate: Estimate
    title: str
    kind: str = ""


class Line(NamedTuple):
    """Points that belong together; `kind` is their class."""

    kind: str
    points: list[Point]


def runs_plot(
    lines: Sequence[Line],
    dates: Sequence[str],
    label: str,
    *,
    size: tuple[int, int] = (720, 260),
    unit: str = "",
    levels: Sequence[tuple[float, str]] = (),
    joined: bool = True,
    least: float = 0.0,
) -> str:
    """Lines over runs, with whiskers for intervals. What a point is, its title says.

    Runs stand side by side in the order of their time, not at their distance in time: results of
    one busy day would be one stroke otherwise.

    Args:
        lines: at least one, with at least one point between them.
        dates: of all runs, for the axis below.
        label: what the plot shows, for those who do not see it.
        size: width and height of the view box.
        unit: after the figures of the axis.
        levels: horizontal lines, each with its class.
        joined: connect the points of a line.
        least: height of the axis at least, so that noise does not look like a mountain range.
    """
    values = _value_range(lines, levels, least)
    runs = (-0.5, len(dates) - 0.5)
    axes = _Axes(*size, runs, values, left=48, right=36, top=12, bottom=30)
    base, end = axes.height - axes.bottom, axes.width - axes.right
    parts = []
    for tick in map(float, nice_ticks(*values, axes.height // 36)):
        parts.append(f'<path class="grid" d="M{axes.left} {axes.y(tick):.1f}H{end}"/>')
        parts.append(_text(axes.left - 6, axes.y(tick) + 3.5, f"{tick:g}{unit}", "end"))
    step = -(-len(dates) // max(1, (end - axes.left) // _DATE))  # the last one always
    for run in range(len(dates) - 1, -1, -step)[::-1]:
        parts.append(f'<path class="axis" d="M{axes.x(run):.1f} {base}v4"/>')
        parts.append(_text(axes.x(run), base + 17, dates[run], "middle"))
    parts.append(f'<path class="axis" d="M{axes.left} {base}H{end}"/>')
    for value, kind in levels:
        parts.append(f'<path class="level {kind}" d="M{axes.left} {axes.y(value):.1f}H{end}"/>')
    for line in lines:
        drawn = [_whiskered(point, axes, 3.2 if len(dates) <= 60 else 2) for point in line.points]
        if joined and len(line.points) > 1:
            way = np.array([(point.run, point.estimate.value) for point in line.points])
            drawn.insert(0, f'<path class="line" d="{axes.path(way)}"/>')
        parts.append(f'<g class="{line.kind}">{"".join(drawn)}</g>')
    return axes.svg(parts, label)


def _whiskered(point: Point, axes: _Axes, radius: float) -> str:
    """A point and its interval."""
    x, found, whisker = axes.x(point.run), point.estimate, ""
    if found.low is not None and found.high is not None:
        ends = f"M{x:.1f} {axes.y(found.low):.1f}V{axes.y(found.high):.1f}"
        whisker = f'<path class="whisker" d="{ends}"/>'
    circle = f'<circle cx="{x:.1f}" cy="{axes.y(found.value):.1f}" r="{radius}"/>'
    title = f"<title>{html.escape(point.title)}</title>"
    return f'<g class="{point.kind}">{title}{whisker}{circle}</g>'


def _value_range(
    lines: Sequence[Line], levels: Sequence[tuple[float, str]], least: float
) -> tuple[float, float]:
    """From the lowest to the highest thing that is drawn, and a little more."""
    found = [point.estimate for line in lines for point in line.points]
    ends = [end for one in found for end in (one.low, one.value, one.high) if end is not None]
    values = [*ends, *(value for value, _ in levels)]
    low, high = min(values), max(values)
    missing = max(0.0, least - (high - low), 1e-9 * max(1.0, abs(high)) - (high - low))
    margin = missing / 2 + 0.06 * (high - low + missing)
    return low - margin, high + margin


def nice_ticks(low: float, high: float, about: int) -> Floats:
    """Round numbers within low…high, `about` so many."""
    rough = (high - low) / max(1, about)
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    ticks = np.arange(np.ceil(low / step), np.floor(high / step + 1e-9) + 1) * step
    rounded: Floats = np.round(ticks, 12) + 0.0  # no "-0"
    return rounded


def _normalised_axis(axes: _Axes, threshold: float, pairs: Floats) -> str:
    """Ticks of the normalised score on top, where its mapping from raw can be told."""
    raw, normalised = pairs[np.argsort(pairs[:, 0])].T
    parts, taken = [], [axes.x(threshold)]
    parts.append(_text(taken[0], axes.top - 9, "0.5", "middle", "strong"))
    rising = np.concatenate([[True], np.diff(normalised) > 0])
    for tick in (0.25, 0.75, 0.1, 0.9, 0.01, 0.99):
        if not normalised[0] < tick < normalised[-1]:
            continue
        x = axes.x(float(np.interp(tick, normalised[rising], raw[rising])))
        if min(abs(x - other) for other in taken) > 32:
            taken.append(x)
            parts.append(f'<path class="axis" d="M{x:.1f} {axes.top}v-4"/>')
            parts.append(_text(x, axes.top - 9, f"{tick:g}", "middle"))
    parts.append(f'<path class="axis" d="M{axes.left} {axes.top}H{axes.width - axes.right}"/>')
    parts.append(_text(axes.left, 12, "normalised score", "start"))
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    cls = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{cls}>{html.escape(text)}</text>'
