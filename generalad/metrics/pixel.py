"""Pixel AUROC, pixel average precision and AUPRO over a whole test set.

All of them follow from one question asked for every anomalous pixel: how many normal pixels score
at least as high? Anomalous pixels are few, so the many normal ones are kept only as sorted float32
pools (4 bytes a pixel), searched once. Pools add up: the pool of the good images serves the whole
test set and every defect type alike. No threshold is sampled and no score is rounded.

For intervals every image is also summarised as histograms over shared bins, from which follows by
how much it moves each metric. Only the width of an interval rests on the bins; the values never do.
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
    auroc_influence,
    average_precision_from_counts,
    average_precision_influence,
    thinned,
)

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]

FPR_LIMIT = 0.3
LOW_FPR_LIMIT = 0.05
"""AUPRO up to this rate tells good detectors apart, and is what MVTec AD 2 is judged by."""

_ANOMALOUS_EDGES = 512  # shared out among defect types, at least 64 each; see bin_edges
_NORMAL_EDGES = 512  # half of them evenly, half in ever finer steps of false-positive rate


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
    aupro: float  # up to FPR_LIMIT
    low_aupro: float  # up to LOW_FPR_LIMIT
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
    overlap against false-positive rate is taken over every distinct threshold from rate 0 to a
    limit, interpolated linearly there, and divided by it. Nothing is dilated.
    """
    normals = sum(pool.size for pool in pools)
    if normals == 0 or regions.count == 0:
        nan = float("nan")
        return PixelMetrics(nan, nan, nan, nan, np.empty((0, 2)))
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
        low_aupro=float(area_below(false / normals, overlap, LOW_FPR_LIMIT)),
        pro_curve=thinned(false / normals, overlap),
    )


def bin_edges(types: Sequence[Regions], normals: Sequence[Scores]) -> Scores:
    """Ascending lower edges of the shared bins; the lowest is -inf.

    Between two edges lies a small part of the anomalous pixels of each defect type, of their
    regions, and of the normal pixels, finer towards the highest of these: false-positive rates
    count there. Every edge comes with the next higher number, so that a score which many pixels
    share has a bin of its own.

    Args:
        types: the anomalous pixels of each defect type.
        normals: normal pixels of each image, ascending.
    """
    count = max(32, _ANOMALOUS_EDGES // (2 * max(1, len(types))))
    at = np.arange(count) / count
    edges = [_normal_edges(normals)]
    for regions in types:
        if regions.count:
            passed = np.cumsum(regions.shares) / regions.count
            by_region = np.minimum(np.searchsorted(passed, at), regions.scores.size - 1)
            by_pixel = (at * regions.scores.size).astype(np.int64)
            edges += [regions.scores[by_region], regions.scores[by_pixel]]
    exact = np.concatenate(edges)
    above = np.nextafter(exact, np.float32(np.inf))
    return np.unique(np.concatenate([np.array([-np.inf], np.float32), exact, above]))


def _normal_edges(normals: Sequence[Scores]) -> Scores:
    """Quantiles of the normal pixels of all images, from the quantiles of each image."""
    half = _NORMAL_EDGES // 2
    rates = np.sort(np.concatenate([np.geomspace(1e-7, 1, half), np.linspace(0, 1, half)]))
    weights = np.diff(rates, prepend=0.0)
    filled = [pixels[::-1] for pixels in normals if pixels.size]
    if not filled:
        return np.empty(0, np.float32)
    scores = [pixels[(rates * (pixels.size - 1)).astype(np.int64)] for pixels in filled]
    pooled = np.concatenate(scores)
    order = np.argsort(-pooled)
    reached = np.cumsum(np.concatenate([weights * pixels.size for pixels in filled])[order])
    at = np.minimum(np.searchsorted(reached, rates * reached[-1]), pooled.size - 1)
    edges: Scores = pooled[order[at]]
    return edges


def histogram(scores: Scores, edges: Scores, shares: Floats | None = None) -> Floats:
    """Pixels, or their shares, per bin (K,), highest bin first; `scores` ascend."""
    starts = np.append(np.searchsorted(scores, edges), scores.size)
    passed = np.arange(scores.size + 1.0) if shares is None else np.append(0.0, np.cumsum(shares))
    counts: Floats = np.diff(passed[starts])[::-1]
    return counts


def influences(normal: Floats, anomalous: Floats, shares: Floats) -> Floats:
    """Derivatives (4 metrics, 3 kinds, K) by the weight of one pixel in each bin.

    The metrics are AUROC, average precision and AUPRO up to both limits; the kinds are those of the
    arguments, histograms (K,) of the whole test set, highest bin first. Scores within a bin count
    as tied.
    """
    false, true, overlap = (np.cumsum(part) for part in (normal, anomalous, shares))
    of_auroc = auroc_influence(true, false)
    of_precision = average_precision_influence(true, false)
    of_aupro = _aupro_influence(false, overlap, FPR_LIMIT)
    of_low_aupro = _aupro_influence(false, overlap, LOW_FPR_LIMIT)
    none = np.zeros_like(false)
    return np.array(
        [
            [of_auroc[1], of_auroc[0], none],
            [of_precision[1], of_precision[0], none],
            [of_aupro[0], none, of_aupro[1]],
            [of_low_aupro[0], none, of_low_aupro[1]],
        ]
    )


def _aupro_influence(false: Floats, overlap: Floats, limit: float) -> tuple[Floats, Floats]:
    """Derivatives (K,) of AUPRO up to `limit` by the weight of a normal pixel and a region's share.

    A pixel shifts the curve from its own bin on, and within that bin in proportion. A shift to the
    right takes area where the curve still rises before the limit, a shift upwards adds it.
    """
    x, y = false / false[-1], overlap / overlap[-1]
    width, rise = np.diff(x, prepend=0.0), np.diff(y, prepend=0.0)
    left = limit - (x - width)
    inside = np.clip(
        np.divide(left, width, out=(left > 0).astype(np.float64), where=width > 0), 0, 1
    )
    risen = np.cumsum(rise * inside)
    right = -(risen[-1] - risen + inside**2 / 2 * rise)
    up = np.maximum(limit - x, 0) + inside**2 / 2 * width
    normal = right - np.sum(right * width)
    share = up - np.sum(up * rise)
    return normal / (limit * false[-1]), share / (limit * overlap[-1])


def _corners(values: Floats) -> Floats:
    before = np.append(0.0, values[:-1])
    return np.append(np.stack([before, values], axis=1).ravel(), values[-1])
