"""The gate: a candidate is drafted, run on all images, calibrated, compared, timed if asked."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from generalad.calibration import calibrate
from generalad.errors import GadError, GateError, StorageError, UsageError
from generalad.export.parity import Parity, compare, refuse_infinite
from generalad.export.verification_images import VIEWS, ImageSet
from generalad.half_precision import FULL
from generalad.image_statistics import quantiles
from generalad.progress import Progress
from generalad.runtime.backends.open import open_for_pipeline
from generalad.runtime.backends.session import Outputs, Session
from generalad.spec import MOST_PIXELS, Spec
from generalad.statistics import Estimate, quantile_estimate

if TYPE_CHECKING:  # devices that verify half precision have no torch
    from generalad.export.candidates import Candidate
    from generalad.model.storage import Trained

TIMED_PAIRS, TIMED_SECONDS = 24, 5.0
"""Least number and time of the runs of a quantised artifact and of its reference, in turns, that
tell which is faster. Of 24 ratios, the median's 95 % interval lies between the 7th and the 18th."""


@dataclasses.dataclass(frozen=True)
class Refused:
    """A candidate that was not taken, with the reasons."""

    name: str
    reasons: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Passed:
    """What is known of a candidate that passed.

    Attributes:
        spec: with thresholds of its own.
        parity: how far it is from the detector.
        calibration: its outputs on the calibration images.
        speed_up: times faster than its reference, where that was asked for.
    """

    spec: Spec
    parity: Parity
    calibration: Outputs
    speed_up: float | None


class Gate:
    """Judges candidates against one detector, and remembers which were refused."""

    def __init__(
        self,
        trained: Trained,
        sets: Sequence[ImageSet],
        original: Sequence[Outputs],
        suffix: str,
        progress: Progress,
    ) -> None:
        self.trained, self.sets, self.original = trained, sets, original
        self.suffix, self.progress = suffix, progress
        self.refused: list[Refused] = []
        self.failure: GadError | None = None
        """Why the last candidate could not be made or run at all."""

    def judge(self, candidate: Candidate) -> Passed | None:
        """Draft a candidate, run it on all images and compare; None if it is refused."""
        problems: list[str] = []
        passed = self.failure = None
        if candidate.overflow:
            problems = [f"values overflow: {', '.join(candidate.overflow[:3])}"]
        else:
            try:
                passed, problems = self._try(candidate)
            except (StorageError, UsageError):
                raise
            except GateError as error:
                problems = [error.message]
            except GadError as error:  # such as an operator that this machine cannot run
                self.failure = error
                problems = [_why_not_run(error)]
        if problems:
            self.refused.append(Refused(candidate.name, tuple(problems)))
            return None
        return passed

    def _try(self, candidate: Candidate) -> tuple[Passed, list[str]]:
        with tempfile.TemporaryDirectory(prefix="gad-export-") as folder:
            draft = Path(folder) / f"draft{self.suffix}"
            spec = dataclasses.replace(self.trained.spec, precision=candidate.precision)
            candidate.write(draft, spec)
            precision = None if self.suffix == ".engine" else FULL
            with open_for_pipeline(draft, precision=precision) as session:
                outputs = run_sets(session, self.sets, candidate.name, self.progress)
                for part in outputs:
                    refuse_infinite(part)
                spec = self.thresholded(spec, outputs)
                parity = self._compare(outputs, spec, session.backend)
                problems = parity.problems()
                speed_up = None
                if candidate.reference is not None and not problems:
                    found = self._speed_up(session, candidate.reference, Path(folder))
                    speed_up, problems = found.value, _too_slow(found)
        return Passed(spec, parity, outputs[0], speed_up), problems

    def thresholded(self, spec: Spec, outputs: Sequence[Outputs]) -> Spec:
        """The detector's spec, or a copy of it, with thresholds set through these outputs."""
        if spec.calibration.folds:
            return shifted(spec, self.original[0], outputs[0])
        views = [o for s, o in zip(self.sets, outputs, strict=True) if s.name == VIEWS]
        return calibrated(spec, outputs[0], *views)

    def _compare(self, outputs: Sequence[Outputs], spec: Spec, backend: str) -> Parity:
        return compare(
            self.sets,
            self.original,
            outputs,
            thresholds=(self.trained.spec.thresholds.image, spec.thresholds.image),
            precision=spec.precision,
            backend=backend,
            good_range=good_range(self.trained.spec),
        )

    def _speed_up(
        self, session: Session, reference: Callable[[Path, Spec], None], folder: Path
    ) -> Estimate:
        """Times faster than the reference on one image.

        Both are opened as for production; threads that spin would take the cores from each other.
        """
        path = folder / f"reference{self.suffix}"
        reference(path, self.trained.spec)
        with open_for_pipeline(path) as other:
            return speed_up(session, other, self.sets[0].images[:1])


def _why_not_run(error: GadError) -> str:
    """ONNX Runtime lacks a type on a device, as bfloat16 on CPUs: the file is not damaged."""
    if "Could not find an implementation" in error.message:
        return "the library has no implementation of its operators on this device"
    return error.message


def good_range(spec: Spec) -> float:
    """Of scores out of fold, where no image was held out; else 0, the images tell it."""
    if not spec.calibration.folds or spec.reference is None:
        return 0.0
    return spec.reference.scores[-1] - spec.reference.scores[0]


def speed_up(session: Session, other: Session, image: NDArray[np.uint8]) -> Estimate:
    """Times faster than another session on one image: the median over pairs of runs."""
    for one in (session, other):
        one.run(image)
    ratios: list[float] = []
    spent = 0.0
    while len(ratios) < TIMED_PAIRS or spent < TIMED_SECONDS:
        turns = (session, other) if len(ratios) % 2 else (other, session)
        seconds = {one: _seconds(one, image) for one in turns}
        ratios.append(seconds[other] / seconds[session])
        spent += sum(seconds.values())
    found = quantile_estimate(ratios, 0.5)
    assert found is not None  # enough pairs for an interval
    return found


def _too_slow(found: Estimate) -> list[str]:
    """Why a candidate that should be faster is not taken; empty if it surely is."""
    if found.low is not None and found.low > 1:
        return []
    return [
        f"not surely faster: {found.value:.2f} times the speed of the reference"
        f" ({found.low:.2f} to {found.high:.2f})"
    ]


def _seconds(session: Session, image: NDArray[np.uint8]) -> float:
    began = time.perf_counter()
    session.run(image)
    return time.perf_counter() - began


def run_sets(
    session: Session, sets: Sequence[ImageSet], name: str, progress: Progress
) -> list[Outputs]:
    """Run all images of all sets; the stage is called "verify NAME"."""
    total = sum(map(len, sets))
    outputs: list[Outputs] = []
    for images in sets:
        done = sum(len(part.scores) for part in outputs)
        outputs.append(
            run_all(
                session,
                images.images,
                progress,
                stage=f"verify {name}",
                before=done,
                total=total,
            )
        )
    return outputs


def run_all(
    session: Session,
    images: NDArray[np.uint8],
    progress: Progress,
    *,
    stage: str = "images",
    before: int = 0,
    total: int | None = None,
    batch_size: int | None = None,
) -> Outputs:
    """Run (n, H, W, 3) images in batches; they are counted from `before` to `total`."""
    parts = []
    if batch_size is None:
        batch_size = 1 if images[0].size > 3 * MOST_PIXELS else 8
    for first in range(0, len(images), batch_size):
        batch = np.ascontiguousarray(images[first : first + batch_size])
        parts.append(session.run(batch))
        progress(stage, before + first + len(batch), len(images) if total is None else total)
    scores, maps = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Outputs(scores, maps)


def calibrated(spec: Spec, outputs: Outputs, views: Outputs | None = None) -> Spec:
    """The spec with thresholds set through the artifact itself, because precision moves scores.

    Args:
        spec: of the detector.
        outputs: of the artifact on the calibration images.
        views: on views of them, where the detector's thresholds look at these.
    """
    before = spec.calibration
    others = None if views is None else (views.scores, views.maps.max(axis=(1, 2)))
    again = calibrate(
        outputs.scores,
        outputs.maps.max(axis=(1, 2)),
        target=before.target,
        groups=before.group_of,
        grouping=before.grouping,
        views=others,
        outliers=before.outliers,
    )
    kept = np.delete(outputs.scores, [one.number for one in before.outliers])
    reference = spec.reference and dataclasses.replace(spec.reference, scores=quantiles(kept))
    return dataclasses.replace(
        spec,
        reference=reference,
        thresholds=again.thresholds,
        normalisation=again.normalisation,
        # Drawn defects were counted with the detector; its export ranks images alike.
        calibration=dataclasses.replace(
            again.calibration, drawn_misses=before.drawn_misses, highest=before.highest
        ),
    )


def shifted(spec: Spec, original: Outputs, outputs: Outputs) -> Spec:
    """The spec with thresholds moved as the artifact moves scores, where no image was held out.

    All calibration images taught the detector, so their scores through the artifact set no
    threshold. But those of detector and artifact differ by what precision does to any image.

    Args:
        spec: of the detector.
        original: of the detector on the calibration images.
        outputs: of the artifact on them.
    """
    before = spec.thresholds
    image = float(np.median(outputs.scores - original.scores))
    peaks = (part.maps.max(axis=(1, 2)) for part in (outputs, original))
    pixel = float(np.median(np.subtract(*peaks)))
    return dataclasses.replace(
        spec,
        reference=spec.reference
        and dataclasses.replace(
            spec.reference, scores=tuple(value + image for value in spec.reference.scores)
        ),
        thresholds=dataclasses.replace(
            before, image=before.image + image, pixel=before.pixel + pixel
        ),
    )
