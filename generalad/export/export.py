"""`gad export`: make a candidate, compare it with the detector, calibrate again, write, or go on.

A candidate that fails the gate is recorded with its reasons and the next, safer one is tried. When
none passes, nothing is written.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from generalad.data.dataset import Dataset
from generalad.errors import GateError, UsageError
from generalad.export.candidates import FORMATS, Candidate, Material, candidates, check
from generalad.export.engine import EngineOptions
from generalad.export.gate import Gate, Passed, Refused, run_sets
from generalad.export.half_precision import first_rung
from generalad.export.parity import Parity
from generalad.export.precision import OPSET
from generalad.export.to_onnx import fix_batch, to_onnx
from generalad.export.verification_images import ImageSet, image_sets
from generalad.files import check_writable
from generalad.half_precision import VerifiedPrecision
from generalad.metrics.ranking import auroc
from generalad.model.session import TorchSession
from generalad.model.storage import Trained, load_detector
from generalad.progress import Progress, no_progress
from generalad.runtime.backends.session import Outputs
from generalad.spec import GoldenSample, Spec
from generalad.version import __version__

TILED = (("fp32", "onnx"), ("fp32", "openvino"))
"""What graphs with a loop over tiles were tried in."""

GOLDEN_SAMPLES = 3
NOT_WRITTEN = "nothing was written; please report this with the output of gad doctor"


@dataclasses.dataclass(frozen=True)
class Exported:
    """A finished artifact.

    Attributes:
        path: of the artifact.
        spec: as written.
        parity: how far it is from the detector.
        name: what was done to the graph, such as "fp16, LayerNorm in fp32".
        refused: what was tried before it, or beside it in half precision.
        half: what a processor does with it in half precision, where it was verified here.
        not_verified: why half precision was not verified though it was asked for; else "".
        speed_up: times faster than the reference on one image (median), where that was asked for.
    """

    path: Path
    spec: Spec
    parity: Parity
    name: str
    refused: tuple[Refused, ...] = ()
    speed_up: float | None = None
    half: VerifiedPrecision | None = None
    not_verified: str = ""


def export_detector(
    detector: str | Path | Trained,
    out: str | Path | None = None,
    *,
    format: str = "onnx",
    precision: str = "fp32",
    batch: int | tuple[int, int] | None = None,
    verify_on: str | Path | Dataset | None = None,
    engine: EngineOptions | None = None,
    weights: Path | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Export a detector to an artifact that is proven equal to it.

    Args:
        detector: a trained detector or its folder.
        out: the file to write; default `model.onnx`, `model-fp16.xml` ... in the detector's folder.
        format: "onnx", "openvino" or "tensorrt".
        precision: "fp32", "fp16" or "int8".
        batch: a fixed size, or (smallest, largest); None for any.
        verify_on: a dataset whose labelled test images are compared as well.
        engine: how to build a TensorRT engine; its batch sizes are those of `batch`.
        weights: where the backbone's weights lie now, if they moved since training.
        progress: told how far each stage is.

    Raises:
        ArtifactError: no detector, or its calibration images are missing.
        GadError: the last candidate could not be made or run at all, such as an engine; or there
            is no graphics card for one.
        GateError: no candidate passed the gate; nothing was written.
        MissingExtraError: the library of the format is not installed.
        StorageError: the artifact cannot be written; an older one is still there.
        UsageError: unknown format, precision or batch.
    """
    progress = progress or no_progress
    sizes = _batch_sizes(batch)
    check(format, precision)
    trained = (
        detector
        if isinstance(detector, Trained)
        else load_detector(Path(detector), weights=weights)
    )
    path = _target(trained.folder, out, format, precision)
    check_writable(path)
    trained.detector.cpu()
    views = trained.spec.calibration.views_rate is not None
    sets = image_sets(
        trained.calibration_images(), verify_on, views=views, geometry=trained.spec.geometry
    )
    geometry = trained.spec.geometry
    if geometry is not None and geometry.tiles is not None and (precision, format) not in TILED:
        raise UsageError(
            f"frames in tiles are exported as ONNX or OpenVINO in fp32, found {format} in"
            f" {precision}",
            remedy="leave --format or the precision out",
        )
    progress("ONNX graph", 0, 1)
    graph = to_onnx(trained.detector)
    if sizes is not None and sizes[0] == sizes[1]:
        fix_batch(graph, sizes[0])
    progress("ONNX graph", 1, 1)
    original = run_sets(TorchSession(trained), sets, "detector", progress)
    engine = engine or EngineOptions()
    if sizes is not None:
        engine = dataclasses.replace(engine, batch=(sizes[0], sizes[0], sizes[1]))
    material = Material(graph, sets[0].images, engine, _validation(sets), progress)
    gate = Gate(trained, sets, original, FORMATS[format], progress)
    for candidate in candidates(format, precision, material):
        if (passed := gate.judge(candidate)) is not None:
            return _write(passed, candidate, path, gate)
    if gate.failure is not None:
        raise gate.failure
    raise GateError(
        f"no {precision} artifact for {format} passed the gate:\n"
        + "\n".join(f"  {one.name}: {'; '.join(one.reasons)}" for one in gate.refused),
        remedy=NOT_WRITTEN if precision == "fp32" else "nothing was written; use fp32",
    )


def _write(passed: Passed, candidate: Candidate, path: Path, gate: Gate) -> Exported:
    record = {
        **passed.parity.to_dict(),
        "candidate": candidate.name,
        "refused": [dataclasses.asdict(one) for one in gate.refused],
        "speed_up": passed.speed_up,
    }
    spec = dataclasses.replace(
        passed.spec,
        parity=record,
        golden=golden_samples(gate.trained.calibration_images(), passed.calibration),
        provenance={**passed.spec.provenance, "export": _provenance()},
    )
    half, write, why = None, candidate.write, ""
    if candidate.half:
        half, write, why = first_rung(candidate, spec, gate)
        if half is not None:
            spec = dataclasses.replace(spec, half_precisions=(half,))
    write(path, spec)
    found = (passed.parity, candidate.name, tuple(gate.refused), passed.speed_up)
    return Exported(path, spec, *found, half=half, not_verified=why)


def golden_samples(images: NDArray[np.uint8], outputs: Outputs) -> tuple[GoldenSample, ...]:
    """Images from the lowest to the highest score, with what this artifact says of them."""
    order = np.argsort(outputs.scores)
    places = np.unique(np.linspace(0, len(order) - 1, GOLDEN_SAMPLES).round().astype(int))
    samples = []
    for index in order[places]:
        _, png = cv2.imencode(".png", cv2.cvtColor(images[index], cv2.COLOR_RGB2BGR))
        samples.append(
            GoldenSample(
                png=base64.b64encode(png.tobytes()).decode("ascii"),
                score=float(outputs.scores[index]),
                map_peak=float(outputs.maps[index].max()),
            )
        )
    return tuple(samples)


def _validation(
    sets: Sequence[ImageSet],
) -> Callable[[Callable[[NDArray[np.uint8]], Any]], float]:
    """Image AUROC of a network over all sets together."""
    images = np.concatenate([images_of_set.images for images_of_set in sets])
    labels = np.concatenate([images_of_set.defective for images_of_set in sets])

    def measure(run: Callable[[NDArray[np.uint8]], Any]) -> float:
        return auroc(labels, np.concatenate([np.array(run(image[None])) for image in images]))

    return measure


def _batch_sizes(batch: int | tuple[int, int] | None) -> tuple[int, int] | None:
    sizes = (batch, batch) if isinstance(batch, int) else batch
    if sizes is not None and not 1 <= sizes[0] <= sizes[1]:
        raise UsageError(
            f"batch: expected a size or a range such as 1..16, found {sizes[0]}..{sizes[1]}"
        )
    return sizes


def _target(folder: Path, out: str | Path | None, format: str, precision: str) -> Path:
    suffix = FORMATS[format]
    if out is None:
        return folder / f"model{'' if precision == 'fp32' else f'-{precision}'}{suffix}"
    path = Path(out)
    if path.suffix.lower() != suffix:
        raise UsageError(f"{path}: expected a name that ends in {suffix} for {format}")
    return path


def _provenance() -> dict[str, Any]:
    return {
        "generalad": __version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "opset": OPSET,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
