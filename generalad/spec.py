"""What a deployable model is: one frozen, versioned record, JSON in and out.

The spec travels in the `metadata_props` of an ONNX file and as JSON beside other formats. It holds
everything a runtime needs to go from an image to a decision, and how each number was obtained.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

from generalad import records
from generalad.errors import ArtifactError
from generalad.geometry.geometry import MOST_TILED, Geometry
from generalad.half_precision import VerifiedPrecision

FORMAT_VERSION = 2
"""Raised by one when an older reader would misunderstand a newer file."""

PLAIN_VERSION = 1
"""Of files without a geometry, which older readers understand; they would resize whole frames."""

METADATA_KEY = "generalad.spec"
"""Key of the JSON in an ONNX file's `metadata_props`."""

DETECTOR_FILE = "detector.json"
"""The file that makes a folder a detector; holds the spec under the key "spec"."""

MOST_PIXELS = 1 << 23
"""Of a network's input, and of its maps: 2896 x 2896. One that wants more wants the memory."""

RESIZE_RULE = "stretch-area-linear-v1"
"""How `generalad.preprocess` makes images; in every artifact, and part of every cache key."""

INPUT_NAME = "images"
OUTPUT_NAMES = ("scores", "maps")


@dataclass(frozen=True)
class DrawnMisses:
    """How many defects drawn on calibration images a threshold for a false-alarm rate misses.

    Real defects need not resemble drawn ones: this shows what a lower rate costs, no more.

    Attributes:
        rate: false-alarm rate that was asked for.
        reached: what can be promised for it, as in `Calibration`.
        missed: drawn defects below the threshold.
        drawn: all of them.
    """

    rate: float
    reached: float
    missed: int
    drawn: int


@dataclass(frozen=True)
class ScoredImage:
    """A good image that its score makes worth a look.

    Attributes:
        number: among the calibration images, from 0.
        name: of the file, with that of its folder.
        score: raw.
    """

    number: int
    name: str
    score: float


@dataclass(frozen=True)
class Calibration:
    """How the thresholds were set, and what they promise.

    Attributes:
        method: in words.
        images: good images whose scores the thresholds come from.
        target: false-alarm rate that was asked for.
        reached: an image of a new group exceeds the threshold with at most this probability, on
            average over calibration sets from the same source: `target`, or 1 / (`groups` + 1)
            where that is more. Where each image is its own group it may be a little less.
        groups: that the images come from; 0 in artifacts of older versions, each image its own.
        grouping: what makes a group, in words; empty where each image is its own.
        group_of: a number for the group of each image, in order and with outliers; empty where each
            is its own.
        folds: that the scores come from, each fold scored by what the others taught; then `reached`
            is expected and not proven. 0 for images that were held out.
        drawn_misses: one for each rate, rising.
        views_rate: the thresholds also keep the false alarms on views of the same images, in
            another light or codec, at most at this rate; None where views were not looked at.
        outliers: good images besides, which set no threshold: the promise is not about their like.
            See `generalad.calibration.outliers_of`.
        highest: the images that set the image threshold, which lies just above the last of them;
            the 20 highest. Empty where views set it, or where the images' names are not known.
    """

    method: str
    images: int
    target: float
    reached: float
    groups: int = 0
    grouping: str = ""
    group_of: tuple[int, ...] = ()
    folds: int = 0
    drawn_misses: tuple[DrawnMisses, ...] = ()
    views_rate: float | None = None
    outliers: tuple[ScoredImage, ...] = ()
    highest: tuple[ScoredImage, ...] = ()


@dataclass(frozen=True)
class Thresholds:
    """Raw thresholds; `score >= image` and `map >= pixel` mean anomalous."""

    image: float
    pixel: float


@dataclass(frozen=True)
class Normalisation:
    """Strictly increasing mapping of raw scores to 0...1 with the threshold at 0.5.

    normalised = 1 / (1 + exp(-(raw - threshold) / scale)), never clamped. `scale` is half the
    distance between the threshold and the median calibration score, so that a typical good image
    lies at about 0.12.
    """

    scale: float

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, found {self.scale}")

    def __call__(self, raw: float, threshold: float) -> float:
        """Map one raw score (or map value) to 0...1."""
        z = (raw - threshold) / self.scale
        # Two forms, because exp() of a large positive number overflows.
        return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """The frozen network under the detector.

    Attributes:
        name: in timm, or "embedded".
        layers: blocks or levels whose outputs are its features.
        weights: where they came from: "hub", "embedded", "package:" and a distribution, or a path.
        weights_sha256: over their tensors.
        licence: under which the weights of that name are published, as an SPDX identifier where
            there is one; "" where it is not known. A file given by the user may have another.
        mean: subtracted from red, green and blue, each 0...1, before the network.
        std: what the differences are divided by. Older records lack both and mean ImageNet's.
    """

    name: str
    layers: tuple[int, ...]
    weights: str
    weights_sha256: str
    licence: str = ""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not min(self.std) > 0:
            raise ValueError("std of the backbone's input must be positive")


@dataclass(frozen=True)
class TrainingSet:
    """What the detector learned from.

    Attributes:
        fingerprint: a hash over the contents of all images.
        images: number of images.
        skipped: paths of images that could not be read.
        digests: first 12 digits of the SHA-256 of each file that was learned from, so that it is
            known again; empty in artifacts of older versions and where there were very many.
    """

    fingerprint: str
    images: int
    skipped: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class GoldenSample:
    """A small proof that a device computes what was verified.

    `png` is an encoded image of the network's input size (base64), `score` its raw image score
    and `map_peak` the largest value of its map.
    """

    png: str
    score: float
    map_peak: float


_WITHOUT_COLOUR = ("brightness", "contrast", "saturated", "detail", "structure", "sharpness")
"""All that references of older versions have."""

STATISTICS = (*_WITHOUT_COLOUR, "red_green", "yellow_blue", "saturation")
"""What is known of each calibration image; `generalad.image_statistics` defines them."""


@dataclass(frozen=True)
class Reference:
    """What the calibration images looked like, to tell camera faults and drift by.

    Attributes:
        images: number of images.
        scores: quantiles of their raw scores in this artifact's precision: minimum, every 5 %,
            maximum.
        statistics: the same of each of `STATISTICS`; older versions knew nothing of colour.
        smallest: least height and least width of the original images.
        largest: greatest height and greatest width.
        aspect_ratios: least and greatest width / height.
    """

    images: int
    scores: tuple[float, ...]
    statistics: dict[str, tuple[float, ...]]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    aspect_ratios: tuple[float, float]

    def __post_init__(self) -> None:
        for values in (self.scores, *self.statistics.values()):
            if len(values) < 2 or any(a > b for a, b in itertools.pairwise(values)):
                raise ValueError("quantiles of the reference must be at least two that rise")
        if missing := set(_WITHOUT_COLOUR) - set(self.statistics):
            raise ValueError(f"the reference lacks {', '.join(sorted(missing))}")
        if min(self.images, *self.smallest) < 1 or not self.aspect_ratios[0] > 0:
            raise ValueError("number, sizes and aspect ratios of the reference must be positive")

    @property
    def spread(self) -> float:
        """How much further others go, as a share: few images do not show it, ten not by half."""
        return 0.5 + 5 / self.images

    def other_format(self, image_size: tuple[int, int]) -> str:
        """How an image of this (height, width) differs in shape or scale; empty if it does not."""
        height, width = image_size
        ratio = width / height
        low, high = self.aspect_ratios
        # 3 %: more than rounding, less than between any two formats of cameras.
        margin = 1.03 * (high / low) ** self.spread
        if not low / margin <= ratio <= high * margin:
            return (
                f"{width} x {height}, width / height is {ratio:.2f}, at calibration"
                f" {low:.2f} to {high:.2f}"
            )
        least_height, least_width = self.smallest
        if 2 * height < least_height or 2 * width < least_width:
            return (
                f"{width} x {height}, less than half of {least_width} x {least_height} at"
                " calibration"
            )
        return ""


@dataclass(frozen=True)
class Spec:
    """Everything a runtime must know about one artifact.

    `image_size` is (height, width) of the network's input, `map_size` that of its maps. `precision`
    is the precision of this very file. `parity` holds the comparison with the trained detector,
    `metrics` figures with the rule they were selected under, `provenance` versions and dates.
    `reference` is None in artifacts that older versions made. `half_precisions` says what was
    verified on processors that compute in half precision; all else holds for float32, unless a
    session computes in one of them: then its spec has what holds there, see `computed_in`.
    `geometry` says what of a frame becomes the input and counts; None for all of it.
    """

    method: str
    class_name: str
    image_size: tuple[int, int]
    map_size: tuple[int, int]
    resize: str
    top_k: int
    backbone: Backbone
    training_set: TrainingSet
    calibration: Calibration
    thresholds: Thresholds
    normalisation: Normalisation
    precision: str = "fp32"
    input_name: str = INPUT_NAME
    output_names: tuple[str, str] = OUTPUT_NAMES
    parity: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    golden: tuple[GoldenSample, ...] = ()
    reference: Reference | None = None
    half_precisions: tuple[VerifiedPrecision, ...] = ()
    geometry: Geometry | None = None
    format_version: int = PLAIN_VERSION

    def __post_init__(self) -> None:
        if min(*self.image_size, *self.map_size, self.top_k) < 1:
            raise ValueError("image_size, map_size and top_k must be positive")
        tiles = None if self.geometry is None else self.geometry.tiles
        for name in ("image_size", "map_size"):
            height, width = getattr(self, name)
            if height * width > (MOST_PIXELS if tiles is None else MOST_TILED):
                raise ValueError(f"{name} is {height} x {width}, more than {MOST_PIXELS} pixels")
        if tiles is not None and self.geometry is not None:
            if self.image_size != self.geometry.tiled_size():
                raise ValueError("image_size is not that of frames that are cut into tiles")
            if min(self.image_size) < tiles.side:
                raise ValueError("tiles are larger than image_size")
        if any(len(half.golden) != len(self.golden) for half in self.half_precisions):
            raise ValueError("half_precisions must have a score for each golden sample")
        if self.geometry == Geometry():
            object.__setattr__(self, "geometry", None)
        if self.geometry is not None:
            object.__setattr__(self, "format_version", FORMAT_VERSION)

    @property
    def frame_map_size(self) -> tuple[int, int]:
        """(height, width) of a map that was laid over the whole frame."""
        return self.map_size if self.geometry is None else self.geometry.frame_size(self.map_size)

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) of the whole frame at the scale at which the network sees it."""
        if self.geometry is None:
            return self.image_size
        return self.geometry.frame_size(self.image_size)

    def is_anomalous(self, score: float) -> bool:
        """The decision on one raw image score."""
        return score >= self.thresholds.image

    def normalised(self, score: float) -> float:
        """A raw image score on the scale 0...1 whose middle is the threshold."""
        return self.normalisation(score, self.thresholds.image)

    def computed_in(self, half: VerifiedPrecision) -> Spec:
        """What holds where a session computes in half precision; see also `stored_as`."""
        golden = [
            dataclasses.replace(sample, score=score, map_peak=peak)
            for sample, (score, peak) in zip(self.golden, half.golden, strict=True)
        ]
        return dataclasses.replace(
            self._shifted(*half.shift), golden=tuple(golden), parity=half.parity
        )

    def stored_as(self, stored: Spec, half: VerifiedPrecision) -> Spec:
        """The reverse: what to write of a spec that holds in half precision, beside `stored`."""
        image, pixel = half.shift
        return dataclasses.replace(
            self._shifted(-image, -pixel), golden=stored.golden, parity=stored.parity
        )

    def _shifted(self, image: float, pixel: float) -> Spec:
        thresholds = Thresholds(self.thresholds.image + image, self.thresholds.pixel + pixel)
        reference = self.reference and dataclasses.replace(
            self.reference, scores=tuple(score + image for score in self.reference.scores)
        )
        return dataclasses.replace(self, thresholds=thresholds, reference=reference)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values; a geometry only where there is one."""
        values = dataclasses.asdict(self)
        if self.geometry is None:
            del values["geometry"]
        return values

    def to_json(self) -> str:
        """The record as JSON; NaN is refused."""
        return records.to_json(self.to_dict())

    @classmethod
    def from_json(cls, text: str, *, name: str = "artifact") -> Spec:
        """Read a record. Fields that this version does not know are ignored within one format.

        Raises:
            ArtifactError: not JSON, a newer format, or fields missing or of a wrong type.
        """
        try:
            raw = records.parse_json(text)
        except records.RecordError as error:
            raise _no_spec(name, f" ({error.message[:80]})") from error
        return cls.from_dict(raw, name=name)

    @classmethod
    def from_dict(cls, raw: Any, *, name: str = "artifact") -> Spec:
        """Read a record from plain values; like `from_json`."""
        version = raw.get("format_version") if isinstance(raw, dict) else None
        if type(version) is not int:
            raise _no_spec(name)
        if version > FORMAT_VERSION:
            raise ArtifactError(
                f"{name}: format {version} is newer than the {FORMAT_VERSION} this version reads",
                remedy="pip install --upgrade generalad",
            )
        try:
            return records.convert(raw, cls)
        except records.RecordError as error:
            raise ArtifactError(
                f"{name}: the spec is damaged ({error})", remedy="export the detector again"
            ) from error


def _no_spec(name: str, why: str = "") -> ArtifactError:
    return ArtifactError(f"{name}: holds no generalad spec{why}", remedy="make one with gad export")
