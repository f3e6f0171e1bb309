"""From raw scores and maps to decisions: normal or anomalous, and where."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import UsageError
from generalad.spec import Spec

if TYPE_CHECKING:
    from generalad.areas import Areas
    from generalad.geometry.placement import Placement

MAX_REGIONS = 100
"""Regions reported of one image, the strongest first; more would be noise."""


@dataclass(frozen=True)
class Region:
    """A connected area (8 neighbours) of the map at or above the pixel threshold.

    `box` is (x, y, width, height) and `area` a number of pixels, both in the original image;
    `peak` is the largest raw map value in it.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float


class Decision(NamedTuple):
    """What is said about one image; `normalised` has the threshold of its `Rule` at 0.5."""

    score: float
    normalised: float
    anomalous: bool
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Milliseconds:
    """Times of one image.

    `infer` is its share of the batch. `total` runs from the start of reading to the decision,
    waiting between the stages included.
    """

    read: float = 0.0
    preprocess: float = 0.0
    infer: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class Result:
    """One frame's outcome: `error`, or `score`, `normalised` and `anomalous`, or `fault` without.

    `source`, `index`, `time` and `path` are those of `Frame`. `fault` says how the image lies
    beyond what the camera showed at calibration. Without a score it was refused as a fault of the
    camera; with one it is a strange part. Where refused images are to be rejected, `anomalous` is
    true for all images with a fault or an error. `match` says how well the part matches its
    template, -1...1, where the artifact aligns parts.
    """

    source: str
    index: int
    time: float
    path: str
    score: float | None
    normalised: float | None
    anomalous: bool | None
    regions: tuple[Region, ...]
    milliseconds: Milliseconds
    error: str | None = None
    fault: str | None = None
    match: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the order of the fields, for JSON; every number is finite."""
        return dataclasses.asdict(self)


_FAR_OFF = 0.001
"""Place on the artifact's normalised scale, from either end, where hardly any image lies."""


@dataclass(frozen=True)
class Rule:
    """When an image of a stream is anomalous.

    Without areas the network's image score decides. With areas it cannot, since it speaks of the
    whole image: the score is then the largest value of the map inside the areas, and the
    artifact's threshold for it is the pixel threshold. That one was calibrated on the largest map
    value of each good image, so the stated false-alarm rate still holds; a part of the image
    cannot have a larger one than the whole.

    Attributes:
        threshold: raw, `score >= threshold` is anomalous; None takes the artifact's own. With areas
            it is on the scale of the map's values.
        areas: where anomalies count; None is everywhere.
        min_area: regions smaller than this are left out, and an anomalous image needs one that is
            not. Pixels of the original image, as `Region.area`; 0 needs no region.

    Raises:
        UsageError: a number is not finite or negative.
    """

    threshold: float | None = None
    areas: Areas | None = None
    min_area: float = 0.0

    def __post_init__(self) -> None:
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise UsageError(f"threshold: expected a number, found {self.threshold}")
        if not (math.isfinite(self.min_area) and self.min_area >= 0):
            raise UsageError(f"min_area: expected pixels, 0 or more, found {self.min_area}")

    def level(self, spec: Spec) -> float:
        """The threshold in use, on the scale of the score that this rule takes."""
        if self.threshold is not None:
            return self.threshold
        return spec.thresholds.image if self.areas is None else spec.thresholds.pixel

    def far_off(self, spec: Spec) -> str:
        """That nothing, or all, will be anomalous by such a threshold, a warning; or empty."""
        if self.threshold is None:
            return ""
        own = dataclasses.replace(self, threshold=None).level(spec)
        place = spec.normalisation(self.threshold, own)
        if _FAR_OFF < place < 1 - _FAR_OFF:
            return ""
        where, what = ("above", "normal") if place > 0.5 else ("below", "anomalous")
        return (
            f"threshold {self.threshold:g} lies far {where} the artifact's {own:.4g}: nearly every"
            f" image will be {what} → thresholds are raw scores; 0.5 of the normalised scale is"
            f" {own:.4g}"
        )

    def check(self, spec: Spec) -> None:
        """Draw the areas for an artifact's maps; raises UsageError where that fails."""
        if self.areas is not None:
            self.areas.mask(spec.frame_map_size)


def decide(
    score: float,
    anomaly_map: NDArray[np.float32],
    spec: Spec,
    *,
    rule: Rule,
    image_size: tuple[int, int],
    lower: float = 0.0,
) -> Decision | None:
    """Decide on one image; None when the network returned a number that is not finite.

    Args:
        score: raw image score; with `rule.areas` the decision has another one, see `Rule`.
        anomaly_map: (h, w), raw, of the whole frame, see `framed`.
        spec: gives the thresholds and the scale of the normalised score.
        rule: of the stream that the image is from.
        image_size: (height, width) of the original image.
        lower: how much lower both thresholds are, raw: where a hysteresis lets go.
    """
    if not is_finite(score, anomaly_map):
        return None
    level, pixel = rule.level(spec) - lower, spec.thresholds.pixel - lower
    if rule.areas is not None:
        inside = rule.areas.mask((anomaly_map.shape[0], anomaly_map.shape[1]))
        anomaly_map = np.where(inside, anomaly_map, -np.inf).astype(np.float32, copy=False)
        score, pixel = float(anomaly_map.max()), level
    found = regions(anomaly_map, pixel, image_size, min_area=rule.min_area)
    anomalous = score >= level and (rule.min_area == 0 or bool(found))
    return Decision(score, spec.normalisation(score, level), anomalous, found)


def framed(
    anomaly_map: NDArray[np.float32], placement: Placement | None, spec: Spec
) -> NDArray[np.float32]:
    """The network's map (h, w), raw, laid over the whole frame; itself where it covers that.

    Where nothing counts it is as low as overlays leave clear, so that no region reaches there.
    """
    if placement is None:
        return anomaly_map
    low = spec.thresholds.pixel - 4 * spec.normalisation.scale
    return placement.to_frame(anomaly_map, low=low)


def is_finite(score: float, anomaly_map: NDArray[np.float32]) -> bool:
    """Whether a score and all values of its map (h, w) are numbers."""
    # OpenCV sums in float64, which cannot overflow, and ten times as fast as NumPy.
    return math.isfinite(score) and math.isfinite(cv2.sumElems(anomaly_map)[0])


def regions(
    anomaly_map: NDArray[np.float32],
    threshold: float,
    image_size: tuple[int, int],
    *,
    min_area: float = 0.0,
) -> tuple[Region, ...]:
    """Find the connected areas at or above `threshold`, by falling peak.

    Args:
        anomaly_map: (h, w), raw; -inf is never part of a region.
        threshold: on the map's values.
        image_size: (height, width) of the original image, which boxes and areas refer to.
        min_area: smaller ones are left out; pixels of the original image.
    """
    above = anomaly_map >= threshold
    if not above.any():
        return ()
    _, found, stats, _ = cv2.connectedComponentsWithStats(above.view(np.uint8), connectivity=8)
    labels = np.asarray(found, np.int32)
    peaks = np.full(len(stats), -np.inf, np.float32)
    np.maximum.at(peaks, labels[above], anomaly_map[above])
    pixels = image_size[0] * image_size[1] / anomaly_map.size
    areas = np.maximum(1, np.rint(stats[:, cv2.CC_STAT_AREA] * pixels)).astype(np.int64)
    areas[0] = -1  # label 0 is the background
    strongest = np.argsort(-peaks, kind="stable")
    chosen = strongest[areas[strongest] >= min_area][:MAX_REGIONS]
    return tuple(
        Region(
            _box(stats[label].tolist(), anomaly_map.shape, image_size),
            int(areas[label]),
            float(peaks[label]),
        )
        for label in chosen
    )


def _box(
    stats: list[int], map_size: tuple[int, ...], image_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Scale OpenCV's (left, top, width, height, area) to the original image, outwards."""
    left, top, width, height, _ = stats
    (map_height, map_width), (image_height, image_width) = map_size, image_size
    x, y = left * image_width // map_width, top * image_height // map_height
    # Whole numbers round upwards exactly; a float could end one pixel outside the image.
    right = -(-(left + width) * image_width // map_width)
    bottom = -(-(top + height) * image_height // map_height)
    return x, y, right - x, bottom - y
