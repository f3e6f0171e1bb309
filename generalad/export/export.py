"""`gad export`: translate, compare on the calibration pictures, calibrate again, write."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

import generalad
from generalad.export.parity import Parity, check_finite, compare
from generalad.export.to_onnx import OPSET, to_onnx, write_model
from generalad.model.session import TorchSession
from generalad.model.storage import Trained, load_detector
from generalad.runtime.session import Outputs, Session, open_session
from generalad.spec import GoldenSample, Spec
from generalad.training.calibration import calibrate

Report = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

GOLDEN_SAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Exported:
    """A finished artifact."""

    path: Path
    spec: Spec
    parity: Parity


def export_detector(
    detector: str | Path | Trained,
    out: str | Path | None = None,
    *,
    weights: Path | None = None,
    report: Report | None = None,
) -> Exported:
    """Export a detector to a fused fp32 ONNX file that is proven equal to it.

    Args:
        detector: a trained detector or its folder.
        out: the file to write; default `model.onnx` in the detector's folder.
        weights: where the backbone's weights lie now, if they moved since training.
        report: told about progress.

    Raises:
        ArtifactError: no detector, or its calibration pictures are missing.
        GateError: the exported model decides differently; nothing was written.
        StorageError: the artifact cannot be written; an older one is still there.
    """
    tell = report or (lambda stage, done, total: None)
    trained = (
        detector
        if isinstance(detector, Trained)
        else load_detector(Path(detector), weights=weights)
    )
    trained.detector.cpu()
    path = Path(out) if out is not None else trained.folder / "model.onnx"
    images = trained.calibration_images()
    tell("translate", 0, 1)
    model = to_onnx(trained.detector)
    tell("translate", 1, 1)
    original = run_all(TorchSession(trained), images, lambda d, t: tell("original", d, t))
    with tempfile.TemporaryDirectory(prefix="gad-export-") as folder:
        draft = Path(folder) / "draft.onnx"
        write_model(model, draft, trained.spec)
        with open_session(draft) as session:
            exported = run_all(session, images, lambda d, t: tell("exported", d, t))
            backend = session.backend
    check_finite(exported)
    spec = _calibrated(trained.spec, exported)
    parity = compare(
        original,
        exported,
        decisions=(
            original.scores >= trained.spec.thresholds.image,
            exported.scores >= spec.thresholds.image,
        ),
        backend=backend,
    )
    parity.check()
    spec = dataclasses.replace(
        spec,
        parity=parity.to_dict(),
        golden=golden_samples(images, exported),
        provenance={**spec.provenance, "export": _provenance()},
    )
    write_model(model, path, spec)
    return Exported(path, spec, parity)


def run_all(
    session: Session,
    images: NDArray[np.uint8],
    progress: Callable[[int, int], None],
    *,
    batch_size: int = 8,
) -> Outputs:
    """Run (n, H, W, 3) pictures in batches."""
    parts = []
    for first in range(0, len(images), batch_size):
        batch = np.ascontiguousarray(images[first : first + batch_size])
        parts.append(session.run(batch))
        progress(first + len(batch), len(images))
    scores, maps = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Outputs(scores, maps)


def golden_samples(images: NDArray[np.uint8], outputs: Outputs) -> tuple[GoldenSample, ...]:
    """Pictures from the lowest to the highest score, with what this artifact says of them."""
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


def _calibrated(spec: Spec, outputs: Outputs) -> Spec:
    """The spec with thresholds set through the artifact itself, because precision moves scores."""
    again = calibrate(outputs.scores, outputs.maps.max(axis=(1, 2)), target=spec.calibration.target)
    return dataclasses.replace(
        spec,
        thresholds=again.thresholds,
        normalisation=again.normalisation,
        calibration=again.calibration,
    )


def _provenance() -> dict[str, Any]:
    return {
        "generalad": generalad.__version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "opset": OPSET,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
