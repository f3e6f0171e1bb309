"""The pixels of a whole test set, summarised once and then measured for any defect types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.metrics.intervals import Stratum, interval
from generalad.metrics.pixel import (
    Floats,
    Regions,
    Scores,
    bin_edges,
    find_regions,
    histogram,
    influences,
    merge,
    pixel_metrics,
    resize_map,
    resize_mask,
)
from generalad.metrics.region_overlap import (
    SaturatedPixels,
    authors_aupro,
    dilated_regions,
    limits,
    saturated_regions,
)
from generalad.statistics import Estimate

GOOD = "good"


class LabelledMap(NamedTuple):
    """The map of one image, its label ("good" or the defect type), and its mask where known.

    `defects` are those of a data set that says how much of each has to be found.
    """

    label: str
    map: NDArray[np.float32]  # (h, w)
    mask: NDArray[np.bool_] | None  # (H, W), True is defective; good images need none
    defects: tuple[SaturatedPixels, ...] = ()


@dataclass(frozen=True, eq=False)
class PixelEstimates:
    """Pixel metrics with their intervals, and the thinned PRO curve to draw."""

    metrics: tuple[Estimate, Estimate, Estimate]  # AUROC, average precision, AUPRO
    pro_curve: Floats  # (points, 2)
    low_aupro: Estimate  # AUPRO up to LOW_FPR_LIMIT
    f1: Estimate | None  # at the threshold that the table was made with


@dataclass(frozen=True, eq=False)
class PixelTable:
    """Per label: sorted normal pixels and regions; per image: histograms over K shared bins."""

    pools: dict[str, Scores]
    regions: dict[str, Regions]
    labels: NDArray[np.str_]  # (B,), images that take part
    normal: Floats  # (B, K)
    anomalous: Floats  # (B, K)
    shares: Floats  # (B, K)
    hits: Floats | None = None  # (B, 2), normal and anomalous pixels at or above a threshold

    @property
    def region_count(self) -> int:
        """Number of ground-truth regions over all images."""
        return sum(regions.count for regions in self.regions.values())

    def measure(self, defect_types: Sequence[str]) -> PixelEstimates:
        """Measure the given defect types against all good images.

        One defective image says nothing of others: then there are no intervals.
        """
        groups = [GOOD, *defect_types]
        regions = merge([self.regions[name] for name in defect_types if name in self.regions])
        exact = pixel_metrics([self.pools[name] for name in groups if name in self.pools], regions)
        if np.isnan(exact.auroc):
            none = Estimate(exact.auroc)
            f1 = None if self.hits is None else none
            return PixelEstimates((none, none, none), exact.pro_curve, none, f1)
        rows = np.isin(self.labels, groups)
        histograms = np.stack([part[rows] for part in (self.normal, self.anomalous, self.shares)])
        values = [exact.auroc, exact.average_precision, exact.aupro, exact.low_aupro]
        moved = np.einsum("mkb,kib->mi", influences(*histograms.sum(axis=1)), histograms)
        anomalous = histograms[1].sum(axis=1)
        if self.hits is not None:
            value, by_image = f1_of_hits(self.hits[rows], anomalous)
            values, moved = [*values, value], np.vstack([moved, by_image])
        auroc, precision, aupro, low_aupro, *f1s = (
            interval(value, images, most=regions.scores.size) if images else Estimate(value)
            for value, images in zip(values, self._strata(rows, moved, anomalous), strict=True)
        )
        metrics = (auroc, precision, aupro)
        return PixelEstimates(metrics, exact.pro_curve, low_aupro, f1s[0] if f1s else None)

    def authors_aupro(
        self, maps: Sequence[LabelledMap], size: tuple[int, int], patch: int
    ) -> float:
        """AUPRO as the authors compute it, of the maps that the table was made of."""
        dilated = [
            dilated_regions(resize_map(item.map, size), resize_mask(item.mask, size), patch)
            for item in maps
            if item.mask is not None and item.label != GOOD
        ]
        pools = list(self.pools.values())
        if not dilated or not pools:
            return float("nan")
        return authors_aupro(pools, merge(dilated), *limits(pools, list(self.regions.values())))

    def _strata(
        self, rows: NDArray[np.bool_], moved: Floats, anomalous: Floats
    ) -> list[list[Stratum]]:
        """For each metric how the images of each class move it.

        Args:
            rows: (B,), the n images that are measured.
            moved: (metrics, n), by how much each image moves each metric.
            anomalous: (n,), anomalous pixels of each image.
        """
        good = self.labels[rows] == GOOD
        if np.count_nonzero(good) == 1 < np.count_nonzero(~good):
            good[:] = False  # a class of its own would not vary
        # Large defects decide for all pixels; as many equal ones would leave as much to chance.
        independent = float(anomalous.sum() ** 2 / np.sum(anomalous**2))
        return [
            [Stratum(metric[~good], independent)]
            + ([Stratum(metric[good], float(good.sum()))] if good.any() else [])
            for metric in moved
        ]


def f1_of_hits(hits: Floats, anomalous: Floats) -> tuple[float, Floats]:
    """F1 over the pixels of n images together, and by how much each image moves it, (n,).

    Args:
        hits: (n, 2), normal and anomalous pixels at or above the threshold.
        anomalous: (n,), anomalous pixels; there are some.
    """
    false, true = hits.sum(axis=0)
    passed = true + false + anomalous.sum()
    f1 = 2 * true / passed
    moved = (2 * hits[:, 1] - f1 * (hits.sum(axis=1) + anomalous)) / passed
    return float(f1), moved


def tabulate_pixels(
    maps: Sequence[LabelledMap],
    size: tuple[int, int],
    *,
    threshold: float | None = None,
    saturated: bool = False,
) -> PixelTable:
    """Summarise all pixels at the evaluation size (H, W).

    With a `threshold`, the pixels at or above it are counted, too. A `saturated` table takes the
    `defects` of each image for its regions, so that its AUPRO is the area under the sPRO curve.
    A defective image without a mask, or whose mask is empty at that size, takes no part: its
    pixels are neither normal nor known to be anomalous.
    """
    by_label: dict[str, list[tuple[LabelledMap, Regions]]] = {}
    for item in maps:
        found = _regions(item, size, saturated)
        if found.count or item.label == GOOD:
            by_label.setdefault(item.label, []).append((item, found))
    regions = {name: merge([part for _, part in items]) for name, items in by_label.items()}
    if not any(part.count for part in regions.values()):
        # Nothing can be measured; the pixels of ten thousand good images need not be sorted.
        labels = np.array([name for name, items in by_label.items() for _ in items], dtype=np.str_)
        hits = None if threshold is None else np.empty((labels.size, 2))
        none = np.empty((labels.size, 0))
        return PixelTable({}, regions, labels, none, none, none, hits)
    pools: dict[str, Scores] = {}
    normals: list[Scores] = []
    for name, items in by_label.items():
        pools[name], parts = _pool([item for item, _ in items], size)
        normals += parts
    anomalous = [part for items in by_label.values() for _, part in items]
    edges = bin_edges([part for name, part in regions.items() if name != GOOD], normals)
    table = np.empty((3, len(normals), edges.size))
    for i, (normal, part) in enumerate(zip(normals, anomalous, strict=True)):
        table[0, i] = histogram(normal, edges)
        table[1, i] = histogram(part.scores, edges)
        table[2, i] = histogram(part.scores, edges, part.shares)
    hits = None if threshold is None else _hits(normals, anomalous, threshold)
    for pool in pools.values():
        pool.sort()
    labels = np.array([name for name, items in by_label.items() for _ in items], dtype=np.str_)
    return PixelTable(pools, regions, labels, table[0], table[1], table[2], hits)


def _hits(normals: Sequence[Scores], anomalous: Sequence[Regions], threshold: float) -> Floats:
    """(B, 2), from the ascending scores of each image."""
    level = np.float32(threshold)
    return np.array(
        [
            [len(scores) - np.searchsorted(scores, level) for scores in (normal, part.scores)]
            for normal, part in zip(normals, anomalous, strict=True)
        ],
        dtype=np.float64,
    ).reshape(-1, 2)


def _pool(items: Sequence[LabelledMap], size: tuple[int, int]) -> tuple[Scores, list[Scores]]:
    """The normal pixels of all images, and views of those of each image, ascending within it."""
    ends = np.cumsum([_count_normal(item, size) for item in items])
    pool = np.empty(ends[-1], np.float32)
    parts = np.split(pool, ends[:-1])
    for part, item in zip(parts, items, strict=True):
        part[:] = _normal_pixels(item, size)
    return pool, parts


def _regions(item: LabelledMap, size: tuple[int, int], saturated: bool) -> Regions:
    anomaly_map = resize_map(item.map, size)
    if item.mask is None or item.label == GOOD:
        return Regions(np.empty(0, np.float32), np.empty(0), 0)
    if saturated:
        return saturated_regions(anomaly_map, item.defects)
    return find_regions(anomaly_map, resize_mask(item.mask, size))


def _count_normal(item: LabelledMap, size: tuple[int, int]) -> int:
    if item.mask is None or item.label == GOOD:
        return size[0] * size[1]
    return size[0] * size[1] - cv2.countNonZero(resize_mask(item.mask, size))


def _normal_pixels(item: LabelledMap, size: tuple[int, int]) -> Scores:
    anomaly_map = resize_map(item.map, size)
    if item.mask is None or item.label == GOOD:
        return np.sort(anomaly_map, axis=None)
    return np.sort(anomaly_map[resize_mask(item.mask, size) == 0])
