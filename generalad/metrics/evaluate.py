"""From per-image results to one evaluation: every number with its interval and its definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.metrics.intervals import image_estimates
from generalad.metrics.pixel import FPR_LIMIT
from generalad.metrics.pixel_table import GOOD, LabelledMap, PixelTable, tabulate_pixels
from generalad.metrics.ranking import best_f1
from generalad.statistics import CONFIDENCE, Estimate, Rate, wilson


@dataclass(frozen=True, eq=False)
class ImageResult:
    """What a detector said about one test image, and what is true of it."""

    path: str
    label: str  # "good" or the defect type
    defective: bool
    score: float  # raw, any scale, higher is more anomalous
    normalised: float  # the score mapped to 0…1 with the threshold at 0.5
    decision: bool  # score >= the artifact's image threshold
    map: NDArray[np.float32]  # (h, w), raw
    mask: NDArray[np.bool_] | None  # (H, W), True is defective; None when no mask is known


@dataclass(frozen=True)
class DefectType:
    """One defect type against all good images."""

    name: str
    images: int
    without_mask: int  # images that take no part in the pixel metrics
    missed: Rate
    image_auroc: Estimate
    image_average_precision: Estimate
    pixel_auroc: Estimate
    aupro: Estimate


@dataclass(frozen=True)
class Evaluation:
    """Every metric of one test set; NaN where a class of images or pixels is missing."""

    image_size: tuple[int, int]  # (H, W) at which pixel metrics are computed
    image_threshold: float
    good: int
    defective: int
    without_mask: int
    regions: int
    image_auroc: Estimate
    image_average_precision: Estimate
    best_f1: Estimate  # without interval
    best_f1_threshold: float  # chosen on these test images
    false_alarms: Rate
    misses: Rate
    pixel_auroc: Estimate
    pixel_average_precision: Estimate
    aupro: Estimate
    defect_types: tuple[DefectType, ...]
    pro_curve: tuple[tuple[float, float], ...]  # false-positive rate, per-region overlap

    def definition(self) -> dict[str, str]:
        """How each number was obtained, in sentences."""
        height, width = self.image_size
        return {
            "selection": "Nothing was chosen on these images except where a line below says so.",
            "intervals": (
                f"{100 * CONFIDENCE:.0f} %, over whole images, good and defective apart: variance "
                "from how much each image moves the metric (infinitesimal jackknife; for image "
                "AUROC that of DeLong), ends by Wilson's formula with Student's t. Image metrics: "
                "as if one more image of each class had scored like one of the other. Pixel "
                "metrics: a kind of defect that these images do not show is not accounted for."
            ),
            "rates": (
                f"False alarms and misses at the detector's own threshold {self.image_threshold:g}"
                f", with Wilson's {100 * CONFIDENCE:.0f} % interval."
            ),
            "best_f1": (
                "Its threshold was chosen on these test images: an upper bound, no interval."
            ),
            "defect_types": "Each defect type is measured against all good images.",
            "pixels": (
                f"Maps (bilinear) and masks (nearest) brought to {height} by {width}; all pixels "
                "of all images, good ones included, every distinct threshold. Defective images "
                f"without a usable mask are left out ({self.without_mask})."
            ),
            "aupro": (
                f"Overlap averaged over {self.regions} ground-truth regions (8-connected, equal "
                f"weight); area for false-positive rates 0 to {FPR_LIMIT}, divided by {FPR_LIMIT}."
            ),
        }

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries; None in place of NaN."""
        plain = {key: _plain(value) for key, value in asdict(self).items()}
        return {**plain, "definition": self.definition()}


def evaluate(
    results: Sequence[ImageResult],
    *,
    image_size: tuple[int, int],
    image_threshold: float,
) -> Evaluation:
    """Measure results on a test set; the order of the results does not matter for the values.

    `image_size` (H, W) is the network's input size; maps and masks are brought to it.
    """
    _check(results, image_threshold)
    good = [result for result in results if not result.defective]
    by_type: dict[str, list[ImageResult]] = {}
    for result in sorted(results, key=lambda result: result.label):
        if result.defective:
            by_type.setdefault(result.label, []).append(result)
    table = tabulate_pixels([LabelledMap(r.label, r.map, r.mask) for r in results], image_size)

    labels, scores = _labels_and_scores(results)
    auroc, precision = image_estimates(labels, scores)
    f1, f1_threshold = best_f1(labels, scores)
    pixels = table.measure(list(by_type))
    types = tuple(_defect_type(name, members, good, table) for name, members in by_type.items())
    defective = [result for members in by_type.values() for result in members]
    return Evaluation(
        image_size=image_size,
        image_threshold=image_threshold,
        good=len(good),
        defective=len(defective),
        without_mask=sum(item.without_mask for item in types),
        regions=table.region_count,
        image_auroc=auroc,
        image_average_precision=precision,
        best_f1=Estimate(f1),
        best_f1_threshold=f1_threshold,
        false_alarms=wilson(sum(result.decision for result in good), len(good)),
        misses=wilson(sum(not result.decision for result in defective), len(defective)),
        pixel_auroc=pixels.metrics[0],
        pixel_average_precision=pixels.metrics[1],
        aupro=pixels.metrics[2],
        defect_types=types,
        pro_curve=tuple((float(x), float(y)) for x, y in pixels.pro_curve),
    )


def _defect_type(
    name: str,
    members: list[ImageResult],
    good: list[ImageResult],
    table: PixelTable,
) -> DefectType:
    auroc, precision = image_estimates(*_labels_and_scores(good + members))
    pixels = table.measure([name])
    return DefectType(
        name=name,
        images=len(members),
        without_mask=len(members) - int(np.count_nonzero(table.labels == name)),
        missed=wilson(sum(not result.decision for result in members), len(members)),
        image_auroc=auroc,
        image_average_precision=precision,
        pixel_auroc=pixels.metrics[0],
        aupro=pixels.metrics[2],
    )


def _labels_and_scores(
    results: Sequence[ImageResult],
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    labels = np.array([result.defective for result in results], dtype=np.bool_)
    return labels, np.array([result.score for result in results], dtype=np.float64)


def _check(results: Sequence[ImageResult], threshold: float) -> None:
    if not results:
        raise DataError("expected at least one test image, found none")
    for result in results:
        if result.defective == (result.label == GOOD):
            raise DataError(
                f"{result.path}: label {result.label!r} and defective={result.defective} disagree",
                remedy='good images are labelled "good", defective ones by their defect type',
            )
        if not result.defective and result.mask is not None and result.mask.any():
            raise DataError(
                f"{result.path}: a good image has a mask that marks a defect",
                remedy="move the image to a defect folder, or remove the mask",
            )
        # A float32 comparison may differ from this one only beside the threshold.
        slack = 1e-6 * max(1.0, abs(threshold))
        near = abs(result.score - threshold) <= slack
        if result.decision != (result.score >= threshold) and not near:
            raise DataError(
                f"{result.path}: score {result.score:g} was decided as {result.decision}, against "
                f"threshold {threshold:g}",
                remedy="evaluate with the threshold that made the decisions",
            )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
