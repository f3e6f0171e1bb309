"""From raw scores and maps to decisions: normal or anomalous, and where."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.spec import Spec

MAX_REGIONS = 100
"""Regions reported of one picture, the strongest first; more would be noise."""


@dataclass(frozen=True)
class Region:
    """A connected area (8 neighbours) of the map at or above the pixel threshold.

    `box` is (x, y, width, height) and `area` a number of pixels, both in the original picture;
    `peak` is the largest raw map value in it.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float


@dataclass(frozen=True)
class Decision:
    """What is said about one picture; `normalised` has the threshold at 0.5."""

    score: float
    normalised: float
    anomalous: bool
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Milliseconds:
    """Times of one picture.

    `infer` is its share of the batch. `total` runs from the start of reading to the decision,
    waiting between the stages included.
    """

    read: float = 0.0
    preprocess: float = 0.0
    infer: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class Result:
    """One frame's outcome: either `error`, or `fault`, or `score`, `normalised` and `anomalous`.

    `source`, `index`, `time` and `path` are those of `Frame`. `fault` names what is wrong with the
    camera, whose picture was not scored then.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the order of the fields, for JSON; every number is finite."""
        return dataclasses.asdict(self)


def decide(
    score: float,
    anomaly_map: NDArray[np.float32],
    spec: Spec,
    *,
    threshold: float,
    image_size: tuple[int, int],
) -> Decision | None:
    """Decide on one picture; None when the network returned a number that is not finite.

    Args:
        score: raw image score.
        anomaly_map: (h, w), raw.
        spec: gives the pixel threshold and the scale of the normalised score.
        threshold: `score >= threshold` is anomalous.
        image_size: (height, width) of the original picture.
    """
    if not (math.isfinite(score) and math.isfinite(anomaly_map.sum(dtype=np.float64))):
        return None
    return Decision(
        score,
        spec.normalisation(score, threshold),
        score >= threshold,
        regions(anomaly_map, spec.thresholds.pixel, image_size),
    )


def regions(
    anomaly_map: NDArray[np.float32], threshold: float, image_size: tuple[int, int]
) -> tuple[Region, ...]:
    """Find the connected areas at or above `threshold`, by falling peak.

    Args:
        anomaly_map: (h, w), raw.
        threshold: on the map's values.
        image_size: (height, width) of the original picture, which boxes and areas refer to.
    """
    above = anomaly_map >= threshold
    if not above.any():
        return ()
    _, found, stats, _ = cv2.connectedComponentsWithStats(above.view(np.uint8), connectivity=8)
    labels = np.asarray(found, np.int32)
    peaks = np.full(len(stats), -np.inf, np.float32)
    np.maximum.at(peaks, labels[above], anomaly_map[above])
    strongest = np.argsort(-peaks, kind="stable")
    chosen = strongest[strongest != 0][:MAX_REGIONS]  # label 0 is the background
    return tuple(
        _region(stats[label].tolist(), float(peaks[label]), anomaly_map.shape, image_size)
        for label in chosen
    )


def _region(
    stats: list[int], peak: float, map_size: tuple[int, ...], image_size: tuple[int, int]
) -> Region:
    """Scale OpenCV's (left, top, width, height, area) to the original picture, outwards."""
    left, top, width, height, area = stats
    (map_height, map_width), (image_height, image_width) = map_size, image_size
    x, y = left * image_width // map_width, top * image_height // map_height
    # Whole numbers round upwards exactly; a float could end one pixel outside the picture.
    right = -(-(left + width) * image_width // map_width)
    bottom = -(-(top + height) * image_height // map_height)
    pixels = area * image_height * image_width / (map_height * map_width)
    return Region((x, y, right - x, bottom - y), max(1, round(pixels)), peak)
