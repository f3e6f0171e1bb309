"""Half precision that a processor computes in: proven on it, by the limits of every export.

`gad export` proves what it writes against the detector. A device without torch proves an artifact
against itself in float32, which was proven: `verify_here`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError, GateError, UsageError
from generalad.export.gate import Refused, good_range, run_sets, shifted, speed_up
from generalad.export.parity import compare, refuse_infinite
from generalad.export.verification_images import ImageSet, image_sets
from generalad.geometry.placement import prepare
from generalad.half_precision import FULL, VERIFY, VerifiedPrecision
from generalad.processor import read_processor
from generalad.progress import Progress, no_progress
from generalad.runtime import open_sources
from generalad.runtime.artifact_copy import claimed, replace_spec
from generalad.runtime.backends import ort, ov
from generalad.runtime.backends.open import open_for_pipeline
from generalad.runtime.backends.session import Outputs, Session, stored_spec
from generalad.runtime.selftest import golden_images, run_golden
from generalad.spec import Spec, Thresholds
from generalad.statistics import Estimate

if TYPE_CHECKING:
    from generalad.export.candidates import Candidate, Write
    from generalad.export.gate import Gate

GOLDEN = "golden samples"
LEAST, MOST = 8, 256
"""Images that a device verifies on: the range of the scores of fewer is no unit, more take long."""


@dataclass(frozen=True)
class Original:
    """What half precision is compared with.

    Attributes:
        spec: of the artifact, as it stands in it.
        sets: images; the first are good ones, whose scores are the unit.
        outputs: for each set, of the detector or of the artifact in float32.
        threshold: on these scores.
        thresholds: those in half precision, of its outputs.
    """

    spec: Spec
    sets: Sequence[ImageSet]
    outputs: Sequence[Outputs]
    threshold: float
    thresholds: Callable[[Sequence[Outputs]], Thresholds]


def offered(suffix: str) -> dict[str, str]:
    """The half precisions that this device computes a kind of artifact in, with its units."""
    if suffix == ".xml":
        return ov.half_units(ov.library().Core())
    return ort.half_units() if suffix == ".onnx" else {}


def verify(
    path: Path, precision: str, name: str, original: Original, progress: Progress
) -> VerifiedPrecision:
    """Run an artifact in half precision on all images, compare, and time it against float32.

    Args:
        path: of the artifact.
        precision: "bf16" or "fp16", which this device has units for.
        name: what is printed and recorded, such as "bf16, LayerNorm in fp32".
        original: what to compare with.
        progress: told how far it is, under `name`.

    Raises:
        GateError: it differs by more than the limits allow; the message says where.
    """
    spec = original.spec
    with open_for_pipeline(path, precision=precision) as session:
        outputs = run_sets(session, original.sets, name, progress)
        for part in outputs:
            refuse_infinite(part)
        thresholds = original.thresholds(outputs)
        parity = compare(
            original.sets,
            original.outputs,
            outputs,
            thresholds=(original.threshold, thresholds.image),
            precision="int8" if spec.precision == "int8" else precision,
            backend=session.backend,
            good_range=good_range(spec),
        )
        if problems := parity.problems():
            raise GateError("; ".join(problems))
        golden = run_golden(session, path.name)
        refuse_infinite(golden)
        found = _speed_up(session, path, original)
        backend = session.backend
    assert found.low is not None and found.high is not None
    return VerifiedPrecision(
        precision=precision,
        units=offered(path.suffix.lower())[precision],
        processor=read_processor().name,
        backend=backend,
        speed_up=(found.value, found.low, found.high),
        shift=(
            thresholds.image - spec.thresholds.image,
            thresholds.pixel - spec.thresholds.pixel,
        ),
        golden=tuple(
            (float(score), float(peak))
            for score, peak in zip(golden.scores, golden.maps.max(axis=(1, 2)), strict=True)
        ),
        parity={**parity.to_dict(), "candidate": name},
    )


def first_rung(
    candidate: Candidate, spec: Spec, gate: Gate
) -> tuple[VerifiedPrecision | None, Write, str]:
    """The first rung of a candidate that passes in a half precision of this processor.

    Rungs that are refused are added to those of the gate. Where the first one is not even faster
    than float32, no safer one is tried.

    Returns:
        What was verified, or None; what writes the artifact; and why it was not verified, or "".
    """
    units = offered(gate.suffix)
    original = Original(
        spec,
        gate.sets,
        gate.original,
        gate.trained.spec.thresholds.image,
        lambda outputs: gate.thresholded(gate.trained.spec, outputs).thresholds,
    )
    for precision in units:
        for number, (kept, write) in enumerate(candidate.half):
            name = precision + kept
            with tempfile.TemporaryDirectory(prefix="gad-export-") as folder:
                draft = Path(folder) / f"half{gate.suffix}"
                write(draft, spec)
                try:
                    return verify(draft, precision, name, original, gate.progress), write, ""
                except GateError as error:
                    reasons = [error.message]
                if number == 0 and not _surely_faster(draft, precision, original):
                    reasons.append("not surely faster, so no safer rung is tried")
            gate.refused.append(Refused(name, tuple(reasons)))
            if len(reasons) > 1:
                break
    if units:
        return None, candidate.write, f"no rung of {' or '.join(units)} passed the gate"
    why = f"this processor has no units for it; {VERIFY} on one that has"
    return None, candidate.write, why


def _surely_faster(path: Path, precision: str, original: Original) -> bool:
    with open_for_pipeline(path, precision=precision) as session:
        low = _speed_up(session, path, original).low
    return low is not None and low > 1


def _speed_up(session: Session, path: Path, original: Original) -> Estimate:
    with open_for_pipeline(path, precision=FULL) as full:
        return speed_up(session, full, original.sets[0].images[:1])


def verify_here(
    artifact: str | Path, images: str | Path, *, progress: Progress | None = None
) -> VerifiedPrecision:
    """Verify an artifact in the half precision of this device, and record what passes in it.

    It is compared with itself in float32, on good images, views of them where its thresholds look
    at views, and the same with defects drawn on them. What was recorded for the same units before
    is replaced, so another processor can measure its own speed.

    Args:
        artifact: an OpenVINO model; on ARM also an ONNX file. Its network and thresholds stay.
        images: a folder or pattern of good images, such as the folder `calibration` of the
            detector; the first `MOST` are taken.
        progress: told how far it is.

    Raises:
        ArtifactError: no artifact, or a damaged one.
        DataError: fewer than `LEAST` images, or one cannot be read.
        GateError: no half precision of this device passes; nothing was changed.
        StorageError: the artifact cannot be written.
        UsageError: this device has no units, or another process verifies the same artifact.
    """
    path, progress = Path(artifact), progress or no_progress
    with claimed(path), open_for_pipeline(path, precision=FULL) as session:
        precisions = offered(path.suffix.lower())
        if not precisions:
            raise UsageError(
                f"{path.name}: this processor, or its library, has no units for half precision",
                remedy="use it as it is, it is computed in float32",
            )
        if session.spec.geometry is not None and session.spec.geometry.tiles is not None:
            raise UsageError(
                f"{path.name}: frames in tiles are computed in float32", remedy="use it as it is"
            )
        original = _of_session(session, path.name, _images(images, session.spec), progress)
        found = _first_that_passes(path, list(precisions), original, progress)
        kept = [one for one in original.spec.half_precisions if not _same(one, found)]
        replace_spec(path, dataclasses.replace(original.spec, half_precisions=(*kept, found)))
    return found


def _first_that_passes(
    path: Path, precisions: Sequence[str], original: Original, progress: Progress
) -> VerifiedPrecision:
    refused = []
    for precision in precisions:
        try:
            return verify(path, precision, precision, original, progress)
        except GateError as error:
            refused.append(f"{precision}: {error.message}")
    raise GateError(
        f"{path.name}: {'; '.join(refused)}", remedy="it stays computed in float32 on this device"
    )


def _same(one: VerifiedPrecision, other: VerifiedPrecision) -> bool:
    return (one.precision, one.units) == (other.precision, other.units)


def _of_session(
    session: Session, name: str, images: NDArray[np.uint8], progress: Progress
) -> Original:
    spec = stored_spec(session)
    shown = golden_images(spec, name)
    good = np.zeros(len(shown), dtype=np.bool_)
    golden = ImageSet(GOLDEN, shown, good, (None,) * len(good))
    views = spec.calibration.views_rate is not None
    sets = (*image_sets(images, views=views, geometry=spec.geometry), golden)
    outputs = run_sets(session, sets, "float32", progress)
    for part in outputs:
        refuse_infinite(part)
    return Original(
        spec,
        sets,
        outputs,
        spec.thresholds.image,
        lambda found: shifted(spec, outputs[0], found[0]).thresholds,
    )


def _images(address: str | Path, spec: Spec) -> NDArray[np.uint8]:
    found = []
    for source in open_sources([str(address)]):
        for frame in source:
            if frame.image is None:
                raise DataError(str(frame.error), remedy="give good images that can be read")
            # What a detector keeps is cut and in place already.
            ready = frame.image.shape[:2] == spec.image_size
            geometry = None if ready else spec.geometry
            found.append(prepare(frame.image, spec.image_size, geometry).pixels)
            if len(found) == MOST:
                return np.stack(found)
    if len(found) < LEAST:
        raise DataError(
            f"{address}: expected at least {LEAST} good images to verify with, found {len(found)}",
            remedy="give the folder calibration of the detector, or recent images of good parts",
        )
    return np.stack(found)
