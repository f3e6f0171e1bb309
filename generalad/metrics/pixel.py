"""Pixel AUROC, pixel average precision and AUPRO over a whole test set.

All three follow from one question asked for every anomalous pixel: how many normal pixels score at
least as high? Anomalous pixels are few, so the many normal ones are kept only as sorted float32
pools (4 bytes a pixel), searched once. Pools add up: the pool of the good images serves the whole
test set and every defect type alike. No threshold is sampled and no score is rounded.

For bootstrap intervals every image is also summarised as histograms over shared bins, so a
resample of images is a weighted sum of rows. Only the width of an interval rests on the bins;
the values themselves never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.metrics.ranking import (
    area_below,
    auroc_from_counts,
    average_precision_from_counts,
    thinned,
)

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]

FPR_LIMIT = 0.3
_BINS_PER_TYPE = 1024  # shared out among defect types, at least 64 each; see bin_edges


@dataclass(frozen=True, eq=False)
class Regions:
    """The anomalous pixels P of one image or many, ascending by score."""

    scores: Scores  # (P,)
    shares: Floats  # (P,), 1 / size in pixels of the region a pixel belongs to
    count: int  # number of regions; the shares sum to it


@dataclass(frozen=True, eq=False)
class PixelMetrics:
    """Exact values; NaN when there is no anomalous or no normal pixel."""

    auroc: float
    average_precision: float
    aupro: float
    pro_curve: Floats  # (points, 2): false-positive rate and per-region overlap, thinned to draw


def resize_map(anomaly_map: NDArray[np.float32], size: tuple[int, int]) -> Scores:
    """Bring a map (h, w) to the evaluation size (H, W), bilinear."""
    if anomaly_map.ndim != 2 or not np.isfinite(anomaly_map).all():
        raise DataError(f"expected a finite map (h, w), found shape {anomaly_map.shape} or NaN")
    values = np.ascontiguousarray(anomaly_map, dtype=np.float32)
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def resize_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring a mask to the evaluation size (H, W), nearest pixel centre; 0 and 1."""
    if mask.ndim != 2:
        raise DataError(f"expected a mask (H, W), found shape {mask.shape}")
    values = np.ascontiguousarray(mask, dtype=np.bool_).view(np.uint8)
    if values.shape == size:
        return values
    resized = cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, np.uint8)


def find_regions(anomaly_map: Scores, mask: NDArray[np.uint8]) -> Regions:
    """Anomalous pixels of one image; a region is an 8-connected component of the mask."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    inside = labels > 0
    scores = anomaly_map[inside]
    order = np.argsort(scores)
    sizes = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    return Regions(scores[order], 1.0 / sizes[labels[inside][order]], len(sizes) - 1)


def merge(parts: Sequence[Regions]) -> Regions:
    """The regions of several images as one."""
    scores = np.concatenate([part.scores for part in parts] or [np.empty(0, np.float32)])
    shares = np.concatenate([part.shares for part in parts] or [np.empty(0)])
    order = np.argsort(scores)
    return Regions(scores[order], shares[order], sum(part.count for part in parts))


def pixel_metrics(pools: Sequence[Scores], regions: Regions) -> PixelMetrics:
    """Exact pixel AUROC, average precision and AUPRO.

    `pools` hold the normal pixels, each sorted ascending; their false-positive rate is over all of
    them together. AUPRO: at a threshold, the per-region overlap is the share of a region's pixels
    at or above it, averaged over all regions with equal weight whatever their size; the area under
    overlap against false-positive rate is taken over every distinct threshold from rate 0 to 0.3,
    interpolated linearly at 0.3, and divided by 0.3. Nothing is dilated.
    """
    normals = sum(pool.size for pool in pools)
    if normals == 0 or regions.count == 0:
        nan = float("nan")
        return PixelMetrics(nan, nan, nan, np.empty((0, 2)))
    scores = regions.scores[::-1]
    last_of_tie = np.append(scores[1:] != scores[:-1], True)
    thresholds = scores[last_of_tie]
    true = (np.flatnonzero(last_of_tie) + 1).astype(np.float64)
    overlap = np.cumsum(regions.shares[::-1])[last_of_tie]
    above, reaching = np.zeros(thresholds.size), np.zeros(thresholds.size)
    for pool in pools:
        above += pool.size - np.searchsorted(pool, thresholds, side="right")
        reaching += pool.size - np.searchsorted(pool, thresholds, side="left")

    # Between two thresholds the curves run flat while normal pixels pass one by one: hence two
    # corners a threshold, before its anomalous pixels are counted and after, and one at the end.
    false = np.append(np.stack([above, reaching], axis=1).ravel(), normals)
    overlap = _corners(overlap / overlap[-1])
    return PixelMetrics(
        auroc=float(auroc_from_counts(_corners(true), false)),
        average_precision=float(
            average_precision_from_counts(np.append(true, true[-1]), np.append(reaching, normals))
        ),
        aupro=float(area_below(false / normals, overlap, FPR_LIMIT)),
        pro_curve=thinned(false / normals, overlap),
    )


def bin_edges(types: Sequence[Regions]) -> Scores:
    """Ascending lower edges of the shared bins, from the anomalous pixels of each defect type.

    A type's bins hold equal numbers of its anomalous pixels, and as many more hold equal parts of
    its regions, so neither pixel rates nor overlap move by much within a bin. The lowest is -inf.
    """
    bins = max(32, _BINS_PER_TYPE // (2 * max(1, len(types))))
    at = np.arange(bins) / bins
    edges = [np.array([-np.inf], np.float32)]
    for regions in types:
        if regions.count:
            passed = np.cumsum(regions.shares) / regions.count
            by_region = np.minimum(np.searchsorted(passed, at), regions.scores.size - 1)
            by_pixel = (at * regions.scores.size).astype(np.int64)
            edges += [regions.scores[by_region], regions.scores[by_pixel]]
    return np.unique(np.concatenate(edges))


def histogram(scores: Scores, edges: Scores, shares: Floats | None = None) -> Floats:
    """Pixels, or their shares, per bin (K,), highest bin first; `scores` ascend."""
    starts = np.append(np.searchsorted(scores, edges), scores.size)
    passed = np.arange(scores.size + 1.0) if shares is None else np.append(0.0, np.cumsum(shares))
    counts: Floats = np.diff(passed[starts])[::-1]
    return counts


def metrics_from_histograms(normal: Floats, anomalous: Floats, shares: Floats) -> Floats:
    """Pixel AUROC, average precision, AUPRO (R, 3) of histograms (R, K), highest bin first.

    Scores within a bin count as tied: an error below 0.002 with the bins of `bin_edges`.
    """
    false, true, overlap = (np.cumsum(part, axis=-1) for part in (normal, anomalous, shares))
    with np.errstate(invalid="ignore"):
        rates = false / false[..., -1:], overlap / overlap[..., -1:]
    return np.stack(
        [
            auroc_from_counts(true, false),
            average_precision_from_counts(true, false),
            area_below(*rates, FPR_LIMIT),
        ],
        axis=-1,
    )


def _corners(values: Floats) -> Floats:
    before = np.append(0.0, values[:-1])
    return np.append(np.stack([before, values], axis=1).ravel(), values[-1])
