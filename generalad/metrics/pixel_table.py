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

    `defects` are those of a data set that says how much of each has to be found. `counted` says
    which pixels count, at the evaluation size; None for all.
    """

    label: str
    map: NDArray[np.float32]  # (h, w)
    mask: NDArray[np.bool_] | None  # (H, W), True is defective; good images need none
    defects: tuple[SaturatedPixels, ...] = ()
    counted: NDArray[np.bool_] | None = None


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
        """Measure the given defect types together against all good images.

        One defective image says nothing of others: then there are no intervals.
        """
        return self._estimates([defect_types])

    def measure_mean(self, defect_types: Sequence[str]) -> PixelEstimates:
        """Measure each defect type against all good images and take the mean over the types.

        A good image moves all types at once, a defective one only its own.
        """
        return self._estimates([[name] for name in defect_types])

    def _estimates(self, groups: Sequence[Sequence[str]]) -> PixelEstimates:
        """The mean over groups of defect types; the curve is that of the first group."""
        moves = [self._moves(group) for group in groups]
        values = np.mean([one.values for one in moves], axis=0).tolist()
        if np.isnan(values[0]):
            found = [Estimate(value) for value in values]
        else:
            by_image = np.mean([one.by_image for one in moves], axis=0)
            strata = self._strata(groups, by_image)
            most = sum(one.most for one in moves)
            found = [
                interval(value, images, most=most)
                for value, images in zip(values, strata, strict=True)
            ]
        auroc, precision, aupro, low_aupro, *f1s = found
        metrics = (auroc, precision, aupro)
        return PixelEstimates(metrics, moves[0].pro_curve, low_aupro, f1s[0] if f1s else None)

    def _moves(self, defect_types: Sequence[str]) -> _Moves:
        groups = [GOOD, *defect_types]
        regions = merge([self.regions[name] for name in defect_types if name in self.regions])
        exact = pixel_metrics([self.pools[name] for name in groups if name in self.pools], regions)
        values = [exact.auroc, exact.average_precision, exact.aupro, exact.low_aupro]
        count = len(values) + (self.hits is not None)
        by_image = np.zeros((count, len(self.labels)))
        if np.isnan(exact.auroc):
            return _Moves([exact.auroc] * count, by_image, 0, exact.pro_curve)
        rows = np.isin(self.labels, groups)
        histograms = np.stack([part[rows] for part in (self.normal, self.anomalous, self.shares)])
        moved = np.einsum("mkb,kib->mi", influences(*histograms.sum(axis=1)), histograms)
        if self.hits is not None:
            value, of_f1 = f1_of_hits(self.hits[rows], histograms[1].sum(axis=1))
            values, moved = [*values, value], np.vstack([moved, of_f1])
        by_image[:, rows] = moved
        return _Moves(values, by_image, regions.scores.size, exact.pro_curve)

    def authors_aupro(
        self, maps: Sequence[LabelledMap], size: tuple[int, int], patch: int
    ) -> float:
        """AUPRO as the authors compute it, of the maps that the table was made of."""
        dilated = [
            dilated_regions(resize_map(item.map, size), _truth(item, size), patch)
            for item in maps
            if item.mask is not None and item.label != GOOD
        ]
        pools = list(self.pools.values())
        if not dilated or not pools:
            return float("nan")
        return authors_aupro(pools, merge(dilated), *limits(pools, list(self.regions.values())))

    def _strata(self, groups: Sequence[Sequence[str]], by_image: Floats) -> list[list[Stratum]]:
        """For each metric how the images of each class move it.

        Args:
            groups: of defect types; the images of each are a class of their own.
            by_image: (metrics, B), by how much each image moves each metric.
        """
        good = self.labels == GOOD
        classes = [np.isin(self.labels, group) for group in groups]
        if np.count_nonzero(good) == 1 < np.count_nonzero(classes[0]) and len(classes) == 1:
            classes[0] |= good  # a class of its own would not vary
            good[:] = False
        anomalous = self.anomalous.sum(axis=1)
        # Large defects decide for all pixels; as many equal ones would leave as much to chance.
        independent = [
            float(anomalous[rows].sum() ** 2 / np.sum(anomalous[rows] ** 2)) for rows in classes
        ]
        if good.any():
            classes, independent = [*classes, good], [*independent, float(good.sum())]
        return [
            [
                Stratum(metric[rows], images)
                for rows, images in zip(classes, independent, strict=True)
            ]
            for metric in by_image
        ]


class _Moves(NamedTuple):
    """Metrics of some defect types, and by how much each image of the table moves them.

    Attributes:
        values: AUROC, average precision, AUPRO, AUPRO to the lower limit, F1 where it is counted.
        by_image: (metrics, B), 0 for images that take no part.
        most: how many anomalous pixels there are.
        pro_curve: (points, 2).
    """

    values: list[float]
    by_image: Floats
    most: int
    pro_curve: Floats


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
    return find_regions(anomaly_map, _truth(item, size))


def _count_normal(item: LabelledMap, size: tuple[int, int]) -> int:
    total = size[0] * size[1] if item.counted is None else int(item.counted.sum())
    if item.mask is None or item.label == GOOD:
        return total
    return total - cv2.countNonZero(_truth(item, size))


def _normal_pixels(item: LabelledMap, size: tuple[int, int]) -> Scores:
    anomaly_map = resize_map(item.map, size)
    if item.mask is None or item.label == GOOD:
        counted = anomaly_map if item.counted is None else anomaly_map[item.counted]
        return np.sort(counted, axis=None)
    normal = _truth(item, size) == 0
    return np.sort(anomaly_map[normal if item.counted is None else normal & item.counted])


def _truth(item: LabelledMap, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The mask at the evaluation size, without what does not count."""
    assert item.mask is not None
    mask = resize_mask(item.mask, size)
    return mask if item.counted is None else mask * item.counted
