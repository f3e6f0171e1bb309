"""The pixels of a whole test set, summarised once and then measured for any defect types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.metrics.bootstrap import Estimate, bootstrap, estimates
from generalad.metrics.pixel import (
    Floats,
    Regions,
    Scores,
    bin_edges,
    find_regions,
    histogram,
    merge,
    metrics_from_histograms,
    pixel_metrics,
    resize_map,
    resize_mask,
)

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

    def measure(
        self, defect_types: Sequence[str], *, resamples: int, rng: np.random.Generator
    ) -> PixelEstimates:
        """Measure the given defect types against all good images."""
        groups = [GOOD, *defect_types]
        regions = merge([self.regions[name] for name in defect_types if name in self.regions])
        exact = pixel_metrics([self.pools[name] for name in groups if name in self.pools], regions)
        values = (exact.auroc, exact.average_precision, exact.aupro)
        if np.isnan(exact.auroc):
            unknown = Estimate(np.nan, np.nan, np.nan)
            return PixelEstimates((unknown, unknown, unknown), exact.pro_curve)

        rows = np.isin(self.labels, groups)
        normal, anomalous, shares = self.normal[rows], self.anomalous[rows], self.shares[rows]

        def statistic(weights: Floats) -> Floats:
            return metrics_from_histograms(weights @ normal, weights @ anomalous, weights @ shares)

        low, high = bootstrap(statistic, self.labels[rows] != GOOD, resamples=resamples, rng=rng)
        auroc, precision, aupro = estimates(values, low, high)
        return PixelEstimates((auroc, precision, aupro), exact.pro_curve)


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
    edges = bin_edges([part for name, part in regions.items() if name != GOOD])

    pools: dict[str, Scores] = {}
    rows: list[Floats] = []
    for name, items in by_label.items():
        pool = np.empty(sum(size[0] * size[1] - part.scores.size for _, part in items), np.float32)
        start = 0
        for item, part in items:
            normal = _normal_pixels(item, size)
            pool[start : start + normal.size] = normal
            start += normal.size
            anomalous, shares = (histogram(part.scores, edges, w) for w in (None, part.shares))
            rows.append(np.stack([histogram(normal, edges), anomalous, shares]))
        pool.sort()
        pools[name] = pool
    table = np.stack(rows, axis=1) if rows else np.empty((3, 0, edges.size))
    labels = np.array([name for name, items in by_label.items() for _ in items], dtype=np.str_)
    return PixelTable(pools, regions, labels, *table)


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
