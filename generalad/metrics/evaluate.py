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
from generalad.metrics.pixel import FPR_LIMIT, LOW_FPR_LIMIT
from generalad.metrics.pixel_table import (
    GOOD,
    LabelledMap,
    PixelEstimates,
    PixelTable,
    tabulate_pixels,
)
from generalad.metrics.ranking import best_f1
from generalad.metrics.region_overlap import SaturatedPixels
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
    defects: tuple[SaturatedPixels, ...] = ()  # where the data set says how much has to be found
    counted: NDArray[np.bool_] | None = None  # (H, W) of the evaluation; None: every pixel counts


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
    pixel_average_precision: Estimate
    aupro_005: Estimate
    seg_f1: Estimate | None
    au_spro: Estimate | None
    au_spro_005: Estimate | None


@dataclass(frozen=True)
class Evaluation:
    """Every metric of one test set; NaN where a class of images or pixels is missing.

    None where nothing was given to measure it with.
    """

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
    aupro_005: Estimate
    seg_f1: Estimate | None  # at the pixel threshold
    au_spro: Estimate | None  # mean over the defect types
    au_spro_005: Estimate | None
    aupro_authors: Estimate | None  # without interval
    pixel_threshold: float | None
    defect_types: tuple[DefectType, ...]
    pro_curve: tuple[tuple[float, float], ...]  # false-positive rate, per-region overlap

    def further_pixel_metrics(self) -> dict[str, Estimate]:
        """Pixel metrics that have no column of their own in a table, by name; only known ones."""
        named = {
            "pixel AP": self.pixel_average_precision,
            "AUPRO to 0.05": self.aupro_005,
            "SegF1": self.seg_f1,
            "AU-sPRO to 0.05": self.au_spro_005,
            "the authors' AUPRO": self.aupro_authors,
        }
        return {name: x for name, x in named.items() if x is not None and not math.isnan(x.value)}

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
            "aupro_005": f"The same for rates 0 to {LOW_FPR_LIMIT}, divided by {LOW_FPR_LIMIT}.",
            **self._definitions_of_some(),
        }

    def _definitions_of_some(self) -> dict[str, str]:
        """Of metrics that not every evaluation has."""
        found = {}
        if self.pixel_threshold is not None:
            found["seg_f1"] = (
                "F1 over the pixels of all images at the detector's own pixel threshold"
                f" {self.pixel_threshold:g}."
            )
        if self.aupro_authors is not None:
            found["aupro_authors"] = (
                "As the published code of GeneralAD computes it: 200 even thresholds, marked areas"
                " dilated by one patch for the overlap but not for the rate, rates below 0.3"
                " divided by the largest of them. Only to compare with tables made so."
            )
        if self.au_spro is not None:
            found["au_spro"] = (
                "As AUPRO, but each defect of the masks counts as found when as much of it is found"
                " as the data set asks for; mean over the defect types."
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries; None in place of NaN."""
        plain = {key: _plain(value) for key, value in asdict(self).items()}
        return {**plain, "definition": self.definition()}


def evaluate(
    results: Sequence[ImageResult],
    *,
    image_size: tuple[int, int],
    image_threshold: float,
    pixel_threshold: float | None = None,
    patch: int | None = None,
) -> Evaluation:
    """Measure results on a test set; the order of the results does not matter for the values.

    Args:
        results: of all test images.
        image_size: (H, W) of the network's input; maps and masks are brought to it.
        image_threshold: that made the decisions.
        pixel_threshold: for SegF1.
        patch: side of the network's patches in pixels of its input, for the authors' AUPRO.
    """
    _check(results, image_threshold)
    good = [result for result in results if not result.defective]
    by_type: dict[str, list[ImageResult]] = {}
    for result in sorted(results, key=lambda result: result.label):
        if result.defective:
            by_type.setdefault(result.label, []).append(result)
    maps = [LabelledMap(r.label, r.map, r.mask, r.defects, r.counted) for r in results]
    spro, mean_spro = _saturated(maps, image_size, list(by_type))
    table = tabulate_pixels(maps, image_size, threshold=pixel_threshold)

    labels, scores = _labels_and_scores(results)
    auroc, precision = image_estimates(labels, scores)
    f1, f1_threshold = best_f1(labels, scores)
    pixels = table.measure(list(by_type))
    types = tuple(
        _defect_type(name, members, good, table, spro.get(name))
        for name, members in by_type.items()
    )
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
        aupro_005=pixels.low_aupro,
        seg_f1=pixels.f1,
        au_spro=None if mean_spro is None else mean_spro.metrics[2],
        au_spro_005=None if mean_spro is None else mean_spro.low_aupro,
        aupro_authors=(
            Estimate(table.authors_aupro(maps, image_size, patch)) if patch is not None else None
        ),
        pixel_threshold=pixel_threshold,
        defect_types=types,
        pro_curve=tuple((float(x), float(y)) for x, y in pixels.pro_curve),
    )


def _defect_type(
    name: str,
    members: list[ImageResult],
    good: list[ImageResult],
    table: PixelTable,
    spro: PixelEstimates | None,
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
        pixel_average_precision=pixels.metrics[1],
        aupro_005=pixels.low_aupro,
        seg_f1=pixels.f1,
        au_spro=None if spro is None else spro.metrics[2],
        au_spro_005=None if spro is None else spro.low_aupro,
    )


def _saturated(
    maps: Sequence[LabelledMap], size: tuple[int, int], defect_types: Sequence[str]
) -> tuple[dict[str, PixelEstimates], PixelEstimates | None]:
    """Each defect type measured by sPRO, and their mean; nothing where no image has saturations.

    The table is large, and gone before the next one is made.
    """
    if not any(item.defects for item in maps):
        return {}, None
    table = tabulate_pixels(maps, size, saturated=True)
    return {name: table.measure([name]) for name in defect_types}, table.measure_mean(defect_types)


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
