"""Drift: slow changes of what a stream shows, against the images of its calibration.

A threshold holds for images from the source that it was calibrated on. `DriftMonitor` compares
the latest images with those and says when they differ, in what, and what to look at.

Frames of a camera are not independent, so a test of significance would find a drift in anything.
What counts here is the size of the effect: the Kolmogorov-Smirnov distance, which is the largest
difference between two cumulative distributions (0: equal, 1: apart), and that the median lies
beyond what the calibration images span. Their average is no measure: where products come in lots,
each lot differs from the mix of all, and is no drift.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from generalad.image_statistics import Statistics
from generalad.spec import Reference

DriftState = Literal["learning", "stable", "drifting"]

WINDOW = 300
"""Images that are compared with the calibration."""

RAISED_FROM, CLEARED_BELOW = 0.5, 0.35
"""Kolmogorov-Smirnov distances. Twenty calibration images alone reach 0.3 by chance."""

_CLEARED_SHARE = 0.7
"""Share of the least shifts below, under which a drift ends."""

_COMPARISONS = 10
"""Comparisons a window."""

_NEW = 0.25
"""An image counts if it looks different from the last that counted, by this share of the
calibration's range (5 % to 95 %): a belt that stands still shows one part, not many."""

_APPEARANCE = ("brightness", "contrast", "sharpness")

_SCORE = "score"

_LEAST_OF_RANGE = 0.4
"""Least shift of a median that matters, as a share of the calibration's range. A single part, seen
for long, has a large distance too, but lies within that range."""

_LEAST_CHANGE = {"brightness": 0.05, "contrast": 0.1, "sharpness": 0.15}
"""Least shift relative to the median. Where all calibration images are alike, any change is far
from them."""

_LEAST_SHIFT = {"saturated": 0.01, "red_green": 1.0, "yellow_blue": 1.0, "saturation": 2.0}
"""Least shift of quantities that may be near 0, or whose 0 means nothing."""

_SPAN, _INNER_SPAN = (0.05, 0.95), (0.1, 0.9)
"""Quantiles of the calibration between which a median is no drift, and back between which one ends.
The ends of few images show less than what there is; then they reach up to the extremes."""

_FEW = 20
"""So few images span from the least to the greatest."""

_BEYOND = 0.1
"""How far beyond the span appearance must lie, as a share of the calibration's range."""

_ADVICE = {
    ("brightness", "lower"): "check the lighting, the exposure and the lens",
    ("brightness", "higher"): "check the lighting, the exposure and for light from outside",
    ("contrast", "lower"): "check for a dirty lens, haze and light from outside",
    ("contrast", "higher"): "check the lighting and the camera's settings",
    ("saturated", "higher"): "check the exposure",
    ("sharpness", "lower"): "check the focus, the lens and the compression of the stream",
    ("sharpness", "higher"): "check the gain and the camera's settings",
    ("saturation", "lower"): "check the camera's colour, day and night mode and white balance",
    ("saturation", "higher"): "check the camera's colour settings",
    ("red_green", "lower"): "check the white balance and the colour of the light",
    ("red_green", "higher"): "check the white balance and the colour of the light",
    ("yellow_blue", "lower"): "check the white balance and whether red and blue are swapped",
    ("yellow_blue", "higher"): "check the white balance and whether red and blue are swapped",
    (_SCORE, "higher"): "look at the images; if the parts are good, gad calibrate",
    (_SCORE, "lower"): "look at the images; defects may be missed until gad calibrate",
}
"""Changes that are reported, causes before effects."""


@dataclass(frozen=True)
class Change:
    """How one quantity differs from the calibration.

    Attributes:
        quantity: "score" or a field of `Statistics`.
        direction: where it went.
        median: of the window.
        reference: median at calibration.
        distance: Kolmogorov-Smirnov distance, 0...1.
    """

    quantity: str
    direction: Literal["lower", "higher"]
    median: float
    reference: float
    distance: float

    def __str__(self) -> str:
        return (
            f"{self.quantity} is {self.direction} than at calibration ({self.median:.3g} instead of"
            f" {self.reference:.3g}): {_ADVICE[self.quantity, self.direction]}"
        )


class DriftMonitor:
    """Watches one stream, in one thread."""

    def __init__(self, reference: Reference, *, window: int = WINDOW) -> None:
        """Watch a stream against `reference`, over the latest `window` images that count."""
        self._reference = {_SCORE: reference.scores, **reference.statistics}
        self._images = reference.images
        self._names = [name for name in self._reference if name in {key for key, _ in _ADVICE}]
        self._columns = [Statistics._fields.index(n) for n in self._names if n != _SCORE]
        self._appearance = [self._names.index(name) for name in _APPEARANCE]
        self._new = np.array([_NEW * _range(self._reference[name]) for name in _APPEARANCE])
        self._window: deque[NDArray[np.float64]] = deque(maxlen=window)
        self._every = max(1, window // _COMPARISONS)
        self._counted = 0
        self._changes: tuple[Change, ...] = ()
        self._state: DriftState = "learning"

    @property
    def state(self) -> DriftState:
        """What is known so far; "learning" until the window is full."""
        return self._state

    @property
    def changes(self) -> tuple[Change, ...]:
        """What drifts, causes before effects; empty unless the state is "drifting"."""
        return self._changes

    def add(self, score: float, statistics: Statistics) -> dict[str, Any] | None:
        """Take an image that was scored, whatever was decided on it.

        Anomalous images belong to it: where drift makes all images anomalous, it would
        otherwise never be seen.

        Args:
            score: raw image score.
            statistics: of the same image.

        Returns:
            Data of a notification of kind "drift" where the state became "drifting", or
            "stable" again.
        """
        values = np.array([score, *(statistics[column] for column in self._columns)])
        if self._window:
            moved = np.abs(values - self._window[-1])[self._appearance]
            if bool((moved <= self._new).all()):
                return None
        self._window.append(values)
        self._counted += 1
        if len(self._window) < (self._window.maxlen or 0) or self._counted % self._every:
            return None
        return self._judge()

    def _judge(self) -> dict[str, Any] | None:
        drifting = self._state == "drifting"
        self._changes = self._compare()
        self._state = "drifting" if self._changes else "stable"
        if bool(self._changes) == drifting:
            return None
        return {
            "state": self._state,
            "changes": [asdict(change) for change in self._changes],
            "suggestion": "; ".join(map(str, self._changes)),
        }

    def _compare(self) -> tuple[Change, ...]:
        """What has moved; less is enough for what drifts already."""
        drifting = {change.quantity for change in self._changes}
        table = np.sort(np.array(self._window), axis=0)
        found = {}
        for name, column in zip(self._names, table.T, strict=True):
            ending = name in drifting
            least, share = (CLEARED_BELOW, _CLEARED_SHARE) if ending else (RAISED_FROM, 1.0)
            reference = np.array(self._reference[name])
            now, then = float(np.median(column)), float(np.median(reference))
            distance = ks_distance(column, reference)
            far = abs(now - then) >= share * _least_shift(name, reference)
            if distance >= least and far and self._beyond(now, name, reference, ending=ending):
                direction: Literal["lower", "higher"] = "lower" if now < then else "higher"
                found[name, direction] = Change(name, direction, now, then, distance)
        return tuple(found[key] for key in _ADVICE if key in found)

    def _beyond(
        self, now: float, name: str, reference: NDArray[np.float64], *, ending: bool
    ) -> bool:
        """Whether a median lies beyond what the calibration images span."""
        low, high = np.quantile(reference, _INNER_SPAN if ending else _SPAN)
        if ending:
            return name == _SCORE or not low <= now <= high
        reach = min(1.0, _FEW / self._images)
        low += reach * (reference[0] - low)
        high += reach * (reference[-1] - high)
        margin = 0.0 if name == _SCORE else _BEYOND * _range(reference)
        return not low - margin <= now <= high + margin


def ks_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Kolmogorov-Smirnov distance of two sorted samples, 0...1."""
    points = np.concatenate([first, second])
    shares = (np.searchsorted(sample, points, "right") / len(sample) for sample in (first, second))
    return float(np.abs(next(shares) - next(shares)).max())


def _least_shift(name: str, reference: NDArray[np.float64]) -> float:
    median = abs(float(np.median(reference)))
    least = _LEAST_SHIFT.get(name, _LEAST_CHANGE.get(name, 0.0) * median)
    return max(least, _LEAST_OF_RANGE * _range(reference))


def _range(quantiles: Sequence[float] | NDArray[np.float64]) -> float:
    """From 5 % to 95 %."""
    low, high = np.quantile(quantiles, (0.05, 0.95))
    return float(high - low)
