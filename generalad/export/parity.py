"""The proof that an exported artifact decides like the detector it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import GateError
from generalad.export.verification_images import ImageSet
from generalad.metrics.pixel import merge, pixel_metrics
from generalad.metrics.pixel_table import GOOD, LabelledMap, tabulate_pixels
from generalad.metrics.ranking import auroc
from generalad.runtime.backends.session import Outputs, value_range


@dataclass(frozen=True)
class Limits:
    """What a precision may change.

    Differences of scores and maps are in units of the range (largest minus smallest) of the
    detector's own calibration scores and maps.

    Eight bits move scores by more than good images differ. There, decisions and ranks of good
    against defective are judged, and what is None is only reported.

    Attributes:
        score: largest score difference.
        map: mean map difference.
        rank: least rank correlation (Spearman) of the scores of a set.
        flip_margin: a decision may differ only for scores this near to the threshold; 0: for none.
        auroc: most image AUROC lost, 0...1.
        aupro: most AUPRO lost, 0...1.
        device: differences that the self-test allows between devices, same units.
    """

    score: float | None
    map: float | None
    rank: float | None
    flip_margin: float
    auroc: float
    aupro: float
    device: float


_HALF = Limits(0.05, 0.01, rank=0.999, flip_margin=0.01, auroc=0.002, aupro=0.005, device=0.05)
LIMITS: Mapping[str, Limits] = {
    "fp32": Limits(1e-3, 1e-4, rank=0.999, flip_margin=0, auroc=1e-3, aupro=1e-3, device=1e-3),
    "fp16": _HALF,
    "bf16": _HALF,
    "int8": Limits(None, None, None, flip_margin=0.1, auroc=0.005, aupro=0.01, device=0.1),
}


@dataclass(frozen=True)
class Comparison:
    """Detector and artifact on one set of images; units as in `Limits`.

    `auroc` and `aupro` are pairs (detector, artifact), NaN where a class is missing; drawn defects
    are ranked against the calibration images.
    """

    name: str
    images: int
    score_largest: float
    score_mean: float
    map_largest: float
    map_mean: float
    rank: float
    flips: int
    flips_far: int
    auroc: tuple[float, float]
    aupro: tuple[float, float]

    def problems(self, limits: Limits) -> list[str]:
        """What exceeds its limit, in words."""
        margin = (
            f" farther than {limits.flip_margin:.0%} of the score range from the threshold"
            if limits.flip_margin
            else ""
        )
        checks = {
            f"scores differ by up to {self.score_largest:.2g} of their range, allowed are"
            f" {limits.score}": limits.score is None or self.score_largest <= limits.score,
            f"maps differ by {self.map_mean:.2g} of their range on average, allowed are"
            f" {limits.map}": limits.map is None or self.map_mean <= limits.map,
            f"the rank correlation is {self.rank:.5f}, asked are {limits.rank}":
            limits.rank is None or self.rank >= limits.rank,
            f"{self.flips_far} of {self.images} decisions differ{margin}, allowed are none":
            not self.flips_far,
            _lost("image AUROC", self.auroc, limits.auroc): _loss(self.auroc) <= limits.auroc,
            _lost("AUPRO", self.aupro, limits.aupro): _loss(self.aupro) <= limits.aupro,
        }  # fmt: skip
        return [f"{self.name}: {words}" for words, holds in checks.items() if not holds]


def _loss(pair: tuple[float, float]) -> float:
    """What the artifact lost; 0 where there is nothing to measure."""
    return 0.0 if np.isnan(pair[0]) else pair[0] - pair[1]


def _lost(name: str, pair: tuple[float, float], limit: float) -> str:
    return f"{name} falls from {pair[0]:.4f} to {pair[1]:.4f}, allowed are {100 * limit:g} points"


@dataclass(frozen=True)
class Parity:
    """How far an artifact is from its detector.

    Attributes:
        precision: whose limits hold.
        score_range: largest minus smallest calibration score of the detector; unit of differences.
        backend: what the artifact ran on.
        sets: one comparison for each set of images.
    """

    precision: str
    score_range: float
    backend: str
    sets: tuple[Comparison, ...]

    @property
    def limits(self) -> Limits:
        """Those of the precision."""
        return LIMITS[self.precision]

    @property
    def flips(self) -> int:
        """Decisions that differ, over all sets."""
        return sum(item.flips for item in self.sets)

    @property
    def score_largest(self) -> float:
        """Largest score difference over all sets, in units of the score range."""
        return max(item.score_largest for item in self.sets)

    def problems(self) -> list[str]:
        """What exceeds its limit, in words; empty if the artifact may be used."""
        return [words for item in self.sets for words in item.problems(self.limits)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the spec, the limits included; None stands for what is not known."""
        record = asdict(self)
        record["spread"] = record.pop("score_range")  # its key in artifacts since format 1
        record["sets"] = list(record["sets"])
        for item in record["sets"]:
            for key in ("auroc", "aupro"):
                item[key] = [None if np.isnan(value) else value for value in item[key]]
        images = sum(item.images for item in self.sets)
        summary = {"images": images, "flips": self.flips, "score_largest": self.score_largest}
        return {**record, **summary, "limits": asdict(self.limits)}


def refuse_infinite(outputs: Outputs) -> None:
    """Refuse outputs no threshold could be set on.

    Raises:
        GateError: a score or map value is NaN or infinite.
    """
    if not all(np.isfinite(values).all() for values in outputs):
        raise GateError("scores or maps are not finite")


def compare(
    sets: Sequence[ImageSet],
    original: Sequence[Outputs],
    exported: Sequence[Outputs],
    *,
    thresholds: tuple[float, float],
    precision: str,
    backend: str,
    good_range: float = 0.0,
) -> Parity:
    """Compare the outputs of a detector and its artifact.

    Args:
        sets: images; the first are the calibration images.
        original: of the detector, for each set.
        exported: of the artifact, for each set.
        thresholds: on the image scores of the detector and of the artifact, each its own.
        precision: a key of `LIMITS`.
        backend: what the artifact ran on.
        good_range: range of the scores of good images that taught nothing, where the calibration
            images have taught the detector and may all have nearly the same score.
    """
    units = tuple(max(value_range(values), good_range) for values in original[0])
    triples = list(zip(sets, original, exported, strict=True))
    comparisons = tuple(
        _compare_set(
            triple,
            # What has no good images of its own is ranked against the calibration images.
            ranked=[triples[0], triple] if triple[0].defective.all() else [triple],
            units=units,
            thresholds=thresholds,
            margin=LIMITS[precision].flip_margin,
        )
        for triple in triples
    )
    return Parity(precision, units[0], backend, comparisons)


SAME = 1e-3
"""Share of the range of good scores within which all scores of a set count as one."""

Triple = tuple[ImageSet, Outputs, Outputs]
"""Images with what the detector and what the artifact says of them."""


def _compare_set(
    triple: Triple,
    *,
    ranked: Sequence[Triple],
    units: tuple[float, ...],
    thresholds: tuple[float, float],
    margin: float,
) -> Comparison:
    images, before, after = triple
    scores = np.abs(before.scores - after.scores) / units[0]
    maps = np.abs(before.maps - after.maps) / units[1]
    flipped = (before.scores >= thresholds[0]) != (after.scores >= thresholds[1])
    distance = np.abs(before.scores - thresholds[0]) / units[0]
    return Comparison(
        name=images.name,
        images=len(images),
        score_largest=float(scores.max()),
        score_mean=float(scores.mean()),
        map_largest=float(maps.max()),
        map_mean=float(maps.mean()),
        # Scores that lie closer together than rounding moves them have no order.
        rank=1.0
        if value_range(before.scores) < SAME * units[0]
        else rank_correlation(before.scores, after.scores),
        flips=int(flipped.sum()),
        flips_far=int((flipped & (distance >= margin)).sum()),
        auroc=(_auroc([(p, o) for p, o, _ in ranked]), _auroc([(p, o) for p, _, o in ranked])),
        aupro=(_aupro([(p, o) for p, o, _ in ranked]), _aupro([(p, o) for p, _, o in ranked])),
    )


def _auroc(parts: Sequence[tuple[ImageSet, Outputs]]) -> float:
    labels = np.concatenate([images.defective for images, _ in parts])
    return auroc(labels, np.concatenate([outputs.scores for _, outputs in parts]))


def _aupro(parts: Sequence[tuple[ImageSet, Outputs]]) -> float:
    """AUPRO at the size of the maps; images whose mask is unknown are left out."""
    if not any(images.defective.any() for images, _ in parts):
        return float("nan")
    maps = [
        LabelledMap("defect" if defective else GOOD, anomaly_map, mask)
        for images, outputs in parts
        for defective, mask, anomaly_map in zip(
            images.defective, images.masks, outputs.maps, strict=True
        )
    ]
    table = tabulate_pixels(maps, maps[0].map.shape)
    regions = merge(list(table.regions.values()))
    return pixel_metrics(list(table.pools.values()), regions).aupro


def rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's rank correlation, ties sharing their mean rank; 1 where either has one value."""
    a, b = (_ranks(values) - (len(values) - 1) / 2 for values in (first, second))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 1.0


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts + 1) / 2)[inverse]
    return ranks
