"""The self-test: golden samples of an artifact, run again on this device.

An artifact carries a few images with the scores that its verified export gave them. `selftest`
runs them through the ordinary session and compares, in the same unit and with the same limits as
the export does (docs/artifact.md).
"""

from __future__ import annotations

import base64
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import ArtifactError, DataError, GateError
from generalad.geometry.geometry import Geometry
from generalad.geometry.placement import frame_of
from generalad.preprocess import decode_image
from generalad.runtime.backends.onnx_hash import check_unchanged
from generalad.runtime.backends.open import open_session
from generalad.runtime.backends.session import EXPORT_AGAIN, Outputs, Session, value_range
from generalad.spec import GoldenSample, Spec

LIMIT = 1e-3
"""Largest allowed difference of scores and map peaks where the spec records no limit."""

RANGE = "range"
SCALE = "normalisation scale"

REMEDY = (
    "do not rely on its decisions here: copy the file again and update the backend and its driver;"
    " if it stays, report it with the output of gad doctor"
)


@dataclass(frozen=True)
class SampleCheck:
    """One golden sample: what was recorded and what this device found.

    Attributes:
        score: raw image score found; NaN or infinite if the network returned that.
        map_peak: largest map value found; NaN if any value of the map is not finite.
        difference: of the scores, in the unit of the self-test.
        map_difference: of the map peaks, in units of the range of the maps found here.
        on_threshold: this sample set the threshold: not one float32 number lies between, so that
            rounding alone turns its decision, which is therefore not judged.
    """

    expected_score: float
    score: float
    difference: float
    expected_map_peak: float
    map_peak: float
    map_difference: float
    expected_anomalous: bool
    anomalous: bool
    on_threshold: bool

    @property
    def finite(self) -> bool:
        """Whether score and map are numbers."""
        return math.isfinite(self.score) and math.isfinite(self.map_peak)

    @property
    def decision_differs(self) -> bool:
        """Whether this device decides otherwise; what is not finite is no decision."""
        turned = self.anomalous != self.expected_anomalous and not self.on_threshold
        return turned or not self.finite


@dataclass(frozen=True)
class SelfTest:
    """How far this device is from the verified export, over the golden samples.

    Attributes:
        artifact: the path as it was given.
        backend: library, version and device that ran the samples.
        unit: what score differences are measured in: the range of the calibration scores, or the
            normalisation scale where the spec records no range.
        unit_value: its size in raw scores.
        limit: largest allowed difference of scores, in that unit, and of map peaks.
        samples: in the order of the spec.
    """

    artifact: str
    backend: str
    unit: str
    unit_value: float
    limit: float
    samples: tuple[SampleCheck, ...]

    @property
    def equal(self) -> bool:
        """Whether every sample is within the limits and decided as recorded."""
        return not self.problems()

    @property
    def score_largest(self) -> float:
        """Largest score difference; NaN if a score is not finite."""
        return float(np.max([sample.difference for sample in self.samples]))

    @property
    def map_largest(self) -> float:
        """Largest difference of map peaks; NaN if a map is not finite."""
        return float(np.max([sample.map_difference for sample in self.samples]))

    @property
    def decisions_differ(self) -> int:
        """How many samples are decided otherwise than recorded."""
        return sum(sample.decision_differs for sample in self.samples)

    def problems(self) -> list[str]:
        """What differs, one text a sample; empty if the device may be used."""
        return [
            f"golden sample {number} of {len(self.samples)}: {', '.join(found)}"
            for number, sample in enumerate(self.samples, start=1)
            if (found := self._problems(sample))
        ]

    def _problems(self, sample: SampleCheck) -> list[str]:
        found = []
        # Written so that NaN does not pass.
        if not sample.difference <= self.limit:
            found.append(
                f"expected score {sample.expected_score:.9g}, found {sample.score:.9g}"
                f" ({sample.difference:.2g} of the {self.unit}, limit {self.limit:g})"
            )
        if not sample.map_difference <= self.limit:
            found.append(
                f"expected map peak {sample.expected_map_peak:.9g}, found {sample.map_peak:.9g}"
                f" ({sample.map_difference:.2g} of the range, limit {self.limit:g})"
            )
        if sample.finite and sample.decision_differs:
            expected, decided = map(_word, (sample.expected_anomalous, sample.anomalous))
            scores = f"score {sample.expected_score:.9g} became {sample.score:.9g}"
            found.append(f"expected {expected}, found {decided} ({scores})")
        return found

    def check(self) -> None:
        """Refuse a device that computes something else.

        Raises:
            GateError: naming every sample that differs.
        """
        if found := self.problems():
            raise GateError(
                f"{self.artifact}: {self.backend} differs from the verified export:"
                f" {'; '.join(found)}",
                remedy=REMEDY,
            )

    def in_words(self) -> str:
        """The result of equal samples in one line."""
        count = len(self.samples)
        unit = self.unit if self.unit == RANGE else f"{self.unit}, as no range is recorded"
        on_threshold = sum(sample.on_threshold for sample in self.samples)
        not_judged = f" ({on_threshold} set the threshold, not judged)" if on_threshold else ""
        return (
            f"{self.artifact}: {count} golden sample{'s' * (count != 1)} within"
            f" {self.score_largest:.1g} of the {unit} (limit {self.limit:g}),"
            f" {self.decisions_differ} decisions differ{not_judged}, {self.backend}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None stands for what is not finite."""
        record = {
            **asdict(self),
            "equal": self.equal,
            "score_largest": self.score_largest,
            "map_largest": self.map_largest,
            "decisions_differ": self.decisions_differ,
        }
        record["samples"] = [_json_numbers(asdict(sample)) for sample in self.samples]
        return _json_numbers(record)


def selftest(
    artifact: str | Path, *, threads: int | None = None, device: str | None = None
) -> SelfTest:
    """Run the golden samples of an artifact on this device and compare with what is recorded.

    Args:
        artifact: made by `gad export`.
        threads: CPU threads; None leaves the choice to the backend.
        device: see `open_session`.

    Returns:
        The comparison; `SelfTest.equal` is the answer, `SelfTest.check` raises it.

    Raises:
        ArtifactError: no artifact, a damaged one, or one without golden samples.
        MissingExtraError: the backend's library is not installed.
    """
    if Path(artifact).suffix.lower() == ".onnx" and Path(artifact).is_file():
        check_unchanged(Path(artifact))
    with open_session(artifact, threads=threads, device=device) as session:
        return selftest_of(session, str(artifact))


def selftest_of(session: Session, name: str) -> SelfTest:
    """The same with an open session of an artifact; raises ArtifactError as `golden_images`."""
    spec = session.spec
    found = run_golden(session, name)
    recorded = _positive(spec.parity.get("spread"))
    unit_value = recorded or spec.normalisation.scale
    limits = spec.parity.get("limits")
    limit = _positive(limits.get("device") if isinstance(limits, dict) else None) or LIMIT
    return SelfTest(
        artifact=name,
        backend=session.backend,
        unit=RANGE if recorded else SCALE,
        unit_value=unit_value,
        limit=limit,
        samples=_compare(spec, found, unit_value),
    )


def run_golden(session: Session, name: str) -> Outputs:
    """What a session says of the golden images of its artifact, one by one, as a camera sends them.

    Raises:
        ArtifactError: there are none, or they cannot be read.
    """
    images = golden_images(session.spec, name)
    runs = [session.run(images[i : i + 1]) for i in range(len(images))]
    scores, maps = (np.concatenate(arrays) for arrays in zip(*runs, strict=True))
    return Outputs(scores, maps)


def golden_images(spec: Spec, name: str) -> NDArray[np.uint8]:
    """The golden images as (B, H, W, 3) uint8 RGB.

    Raises:
        ArtifactError: there are none, or they cannot be read.
    """
    if not spec.golden:
        raise ArtifactError(
            f"{name}: carries no golden samples, so there is nothing to compare with",
            remedy=EXPORT_AGAIN,
        )
    geometry = spec.geometry or Geometry()
    tiles, images = geometry.tiles, []
    for number, sample in enumerate(spec.golden, start=1):
        title = f"{name}: golden sample {number} of {len(spec.golden)}"
        try:
            image = decode_image(base64.b64decode(sample.png, validate=True), name=title)
        except DataError as error:
            raise ArtifactError(error.message, remedy=EXPORT_AGAIN) from error
        except ValueError as error:
            raise ArtifactError(f"{title}: is no base64", remedy=EXPORT_AGAIN) from error
        expected = spec.image_size if tiles is None else (tiles.side, tiles.side)
        if image.shape != (*expected, 3):
            raise ArtifactError(
                f"{title}: is {image.shape[:2]}, the network takes {expected}",
                remedy=EXPORT_AGAIN,
            )
        images.append(image if tiles is None else frame_of(image, geometry))
    return np.stack(images)


def _compare(spec: Spec, found: Outputs, unit: float) -> tuple[SampleCheck, ...]:
    # Images that taught the detector may all score alike.
    map_unit = max(value_range(found.maps), unit if spec.calibration.folds else 0.0)
    return tuple(
        _sample(spec, golden, float(score), _peak(values), unit=unit, map_unit=map_unit)
        for golden, score, values in zip(spec.golden, found.scores, found.maps, strict=True)
    )


def _sample(
    spec: Spec, golden: GoldenSample, score: float, peak: float, *, unit: float, map_unit: float
) -> SampleCheck:
    with np.errstate(over="ignore"):
        above = np.nextafter(np.float32(golden.score), np.float32(np.inf))
        on_threshold = bool(above == np.float32(spec.thresholds.image))
    return SampleCheck(
        expected_score=golden.score,
        score=score,
        difference=abs(score - golden.score) / unit,
        expected_map_peak=golden.map_peak,
        map_peak=peak,
        map_difference=abs(peak - golden.map_peak) / map_unit,
        expected_anomalous=spec.is_anomalous(golden.score),
        anomalous=spec.is_anomalous(score),
        on_threshold=on_threshold,
    )


def _peak(values: NDArray[np.float32]) -> float:
    return float(values.max()) if np.isfinite(values).all() else math.nan


def _positive(value: Any) -> float | None:
    """A recorded number, None where there is none that can be divided by."""
    usable = type(value) in (int, float) and 0 < value <= sys.float_info.max
    return float(value) if usable else None


def _word(anomalous: bool) -> str:
    return "anomalous" if anomalous else "normal"


def _json_numbers(record: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }
