"""The pixels of a whole test set, summarised once and then measured for any defect types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
from generalad.statistics import Estimate

GOOD = "good"


class LabelledMap(NamedTuple):
    """The map of one image, its label ("good" or the defect type), and its mask where known."""

    label: str
    map: NDArray[np.float32]  # (h, w)
    mask: NDArray[np.bool_] | None  # (H, W), True is defective; good images need none


@dataclass(frozen=True, eq=False)
class PixelEstimates:
    """Pixel metrics with their intervals, and the thinned PRO curve to draw."""

    metrics: tuple[Estimate, Estimate, Estimate]  # AUROC, average precision, AUPRO
    pro_curve: Floats  # (points, 2)


@dataclass(frozen=True, eq=False)
class PixelTable:
    """Per label: sorted normal pixels and regions; per image: histograms over K shared bins."""

    pools: dict[str, Scores]
    regions: dict[str, Regions]
    labels: NDArray[np.str_]  # (B,), images that take part
    normal: Floats  # (B, K)
    anomalous: Floats  # (B, K)
    shares: Floats  # (B, K)

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
        values = exact.auroc, exact.average_precision, exact.aupro
        strata = [[], [], []] if np.isnan(exact.auroc) else self._strata(groups)
        auroc, precision, aupro = (
            interval(value, images, most=regions.scores.size) if images else Estimate(value)
            for value, images in zip(values, strata, strict=True)
        )
        return PixelEstimates((auroc, precision, aupro), exact.pro_curve)

    def _strata(self, groups: Sequence[str]) -> list[list[Stratum]]:
        """For each metric how the images of each class move it."""
        rows = np.isin(self.labels, groups)
        histograms = np.stack([part[rows] for part in (self.normal, self.anomalous, self.shares)])
        moved = np.einsum("mkb,kib->mi", influences(*histograms.sum(axis=1)), histograms)
        anomalous = histograms[1].sum(axis=1)
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


def tabulate_pixels(maps: Sequence[LabelledMap], size: tuple[int, int]) -> PixelTable:
    """Summarise all pixels at the evaluation size (H, W).

    A defective image without a mask, or whose mask is empty at that size, takes no part: its
    pixels are neither normal nor known to be anomalous.
    """
    by_label: dict[str, list[tuple[LabelledMap, Regions]]] = {}
    for item in maps:
        found = _regions(item, size)
        if found.count or item.label == GOOD:
            by_label.setdefault(item.label, []).append((item, found))
    regions = {name: merge([part for _, part in items]) for name, items in by_label.items()}
    pools: dict[str, Scores] = {}
    normals: list[Scores] = []
    for name, items in by_label.items():
        pools[name], parts = _pool(items, size)
        normals += parts
    anomalous = [part for items in by_label.values() for _, part in items]
    edges = bin_edges([part for name, part in regions.items() if name != GOOD], normals)
    table = np.empty((3, len(normals), edges.size))
    for i, (normal, part) in enumerate(zip(normals, anomalous, strict=True)):
        table[0, i] = histogram(normal, edges)
        table[1, i] = histogram(part.scores, edges)
        table[2, i] = histogram(part.scores, edges, part.shares)
    for pool in pools.values():
        pool.sort()
    labels = np.array([name for name, items in by_label.items() for _ in items], dtype=np.str_)
    return PixelTable(pools, regions, labels, *table)


def _pool(
    items: Sequence[tuple[LabelledMap, Regions]], size: tuple[int, int]
) -> tuple[Scores, list[Scores]]:
    """The normal pixels of all images, and views of those of each image, ascending within it."""
    ends = np.cumsum([size[0] * size[1] - part.scores.size for _, part in items])
    pool = np.empty(ends[-1], np.float32)
    parts = np.split(pool, ends[:-1])
    for part, (item, _) in zip(parts, items, strict=True):
        part[:] = _normal_pixels(item, size)
    return pool, parts


def _regions(item: LabelledMap, size: tuple[int, int]) -> Regions:
    anomaly_map = resize_map(item.map, size)
    if item.mask is None or item.label == GOOD:
        return Regions(np.empty(0, np.float32), np.empty(0), 0)
    return find_regions(anomaly_map, resize_mask(item.mask, size))


def _normal_pixels(item: LabelledMap, size: tuple[int, int]) -> Scores:
    anomaly_map = resize_map(item.map, size)
    if item.mask is None or item.label == GOOD:
        return np.sort(anomaly_map, axis=None)
    return np.sort(anomaly_map[resize_mask(item.mask, size) == 0])
