"""Two relatives of AUPRO: sPRO of MVTec LOCO, and what the authors of GeneralAD compute.

Both are told by the same two things as AUPRO itself: the scores of normal pixels, and those of the
anomalous ones with the share of a region that each stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.metrics.pixel import Regions, Scores, find_regions, merge

AUTHORS_STEPS = 200
AUTHORS_FPR_LIMIT = 0.3


class SaturatedPixels(NamedTuple):
    """A defect of which only a part has to be found.

    Attributes:
        pixels: (n,), its pixels at the evaluation size, counted row by row.
        saturation: how large that part is, above 0 and at most 1.
    """

    pixels: NDArray[np.int32]
    saturation: float


def saturated_pixels(mask: NDArray[np.uint8], saturation: float) -> SaturatedPixels:
    """Of a mask (H, W) at the evaluation size."""
    return SaturatedPixels(np.flatnonzero(mask).astype(np.int32), saturation)


def saturated_regions(anomaly_map: Scores, defects: Sequence[SaturatedPixels]) -> Regions:
    """Anomalous pixels of one image with the share of the saturated overlap that each gains.

    sPRO (Bergmann et al., IJCV 2022, eq. 2) of a defect at a threshold is the number of its pixels
    at or above it, divided by its saturation area, and 1 at most. So going down from the highest
    pixel each gains the same share until the area is reached, and the rest gains nothing. A defect
    is one file, however many pieces it has; a pixel of two defects counts in both.
    """
    parts = []
    for defect in defects:
        if defect.pixels.size:
            scores = np.sort(anomaly_map.ravel()[defect.pixels])
            area = max(1.0, defect.saturation * scores.size)
            gained = np.minimum(np.arange(scores.size + 1.0), area) / area
            parts.append(Regions(scores, np.diff(gained)[::-1].copy(), 1))
    return merge(parts)


def dilated_regions(anomaly_map: Scores, mask: NDArray[np.uint8], patch: int) -> Regions:
    """Anomalous pixels of one image whose scores are the largest within a square around each.

    Dilating a map that was cut at a threshold is cutting the dilated map.
    """
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (patch, patch))
    return find_regions(np.asarray(cv2.dilate(anomaly_map, square), np.float32), mask)


def authors_aupro(pools: Sequence[Scores], regions: Regions, low: float, high: float) -> float:
    """AUPRO as the published code of GeneralAD computes it; NaN without regions or normal pixels.

    200 thresholds at even steps from the lowest to the highest value of all maps; a pixel above one
    is marked. For the overlap with the regions the marked area is dilated by a square of one patch,
    for the false-positive rate it is not. Of the points with a rate below 0.3 the rates are divided
    by the largest of them, and the area is taken by trapezoids, from the lowest rate that there is.

    Args:
        pools: normal pixels, each ascending.
        regions: of `dilated_regions`.
        low: the lowest value of all maps.
        high: the highest.
    """
    normals = sum(pool.size for pool in pools)
    if not normals or not regions.count or high <= low:
        return float("nan")
    thresholds = (low + np.arange(AUTHORS_STEPS) * (high - low) / AUTHORS_STEPS).astype(np.float32)
    false = np.zeros(AUTHORS_STEPS)
    for pool in pools:
        false += pool.size - np.searchsorted(pool, thresholds, side="right")
    reached = np.append(0.0, np.cumsum(regions.shares[::-1]))
    above = regions.scores.size - np.searchsorted(regions.scores, thresholds, side="right")
    rates, overlap = false / normals, reached[above] / regions.count
    kept = rates < AUTHORS_FPR_LIMIT
    if np.count_nonzero(kept) < 2 or rates[kept].max() == 0:
        return float("nan")
    x, y = rates[kept] / rates[kept].max(), overlap[kept]
    return float(-np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def limits(pools: Sequence[Scores], regions: Sequence[Regions]) -> tuple[float, float]:
    """Lowest and highest value of all maps, from their ascending parts."""
    parts = [part for part in (*pools, *(one.scores for one in regions)) if part.size]
    if not parts:
        return float("nan"), float("nan")
    return float(min(part[0] for part in parts)), float(max(part[-1] for part in parts))
