"""A trained detector on disk: a folder with JSON, one safetensors file and calibration images.

::

    detector.json              configuration, spec, where the backbone's weights come from, hashes
    trained.safetensors        what training made
    calibration/000000.png ... the held-out good images at the network's input size, for export

The backbone's weights are not copied: they are large, shared by all detectors, and found again by
their source. Their hash is checked, so a detector never runs on other weights than it was trained
with. Only an imported detector brings its own, in a file beside the others: its source is that
file's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from generalad.config import EMBEDDED, PRESETS, Config
from generalad.errors import ArtifactError, ConfigError, DataError, WeightsError
from generalad.files import (
    atomic_write,
    make_folder,
    read_json,
    sha256_of_bytes,
    sha256_of_file,
    write_json,
)
from generalad.model.backbone import Backbone
from generalad.model.detector import Detector
from generalad.model.weight_packages import PREFIX
from generalad.model.weights import HUB, load_backbone
from generalad.preprocess import read_image
from generalad.spec import DETECTOR_FILE, Spec

KIND = "generalad-detector"
VERSION = 3
"""2 since maps, features of CNNs and EVA-02, and the hash of the weights are the authors'."""
_TRAINED = "trained.safetensors"
_CALIBRATION = "calibration"


@dataclass(frozen=True)
class Trained:
    """A detector with everything that is known of it.

    Attributes:
        detector: in evaluation mode.
        spec: thresholds, calibration, provenance.
        folder: where it was loaded from.
    """

    detector: Detector
    spec: Spec
    folder: Path

    def calibration_images(self) -> NDArray[np.uint8]:
        """The held-out good images, (n, H, W, 3) uint8 RGB at the network's input size.

        Raises:
            ArtifactError: images are missing or were changed.
        """
        paths = sorted((self.folder / _CALIBRATION).glob("*.png"))
        try:
            images = [read_image(path) for path in paths]
        except DataError as error:
            raise _calibration_error(self.folder) from error
        if _hash_of(images) != self.spec.provenance.get("calibration_sha256"):
            raise _calibration_error(self.folder)
        return np.stack(images)


def save_detector(
    folder: Path,
    detector: Detector,
    spec: Spec,
    calibration: Sequence[NDArray[np.uint8]],
) -> None:
    """Write a detector; `detector.json` comes last and makes it one.

    Args:
        folder: created if needed.
        detector: trained.
        spec: to record; the hash of the calibration images is added.
        calibration: images (H, W, 3) uint8 RGB at the network's input size.
    """
    make_folder(folder / _CALIBRATION)
    for stale in (folder / _CALIBRATION).glob("*.png"):
        stale.unlink()
    for index, image in enumerate(calibration):
        # Not imwrite, which does not say when the disk is full.
        _, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        with atomic_write(folder / _CALIBRATION / f"{index:06d}.png") as path:
            path.write_bytes(png.tobytes())
    tensors = {k: v.detach().cpu().contiguous() for k, v in detector.trained_state().items()}
    with atomic_write(folder / _TRAINED) as path:
        path.write_bytes(save(tensors))
    spec.provenance["calibration_sha256"] = _hash_of(calibration)
    record = {
        "kind": KIND,
        "version": VERSION,
        "config": detector.config.to_dict(),
        "trained_sha256": sha256_of_file(folder / _TRAINED),
        "spec": spec.to_dict(),
    }
    write_json(folder / DETECTOR_FILE, record)


def load_detector(
    folder: Path, *, weights: Path | None = None, device: str | torch.device = "cpu"
) -> Trained:
    """Load a detector and check everything against the recorded hashes.

    Args:
        folder: written by `gad train`.
        weights: where the backbone's weights lie now, if they moved since training.
        device: where to put the detector.

    Raises:
        ArtifactError: no detector, a newer one, or files that were changed or cut off.
        WeightsError: the backbone's weights are not to be had, or are others.
    """
    record = read_record(folder)
    try:
        config = PRESETS["large"].replaced(record["config"])
    except (ConfigError, AttributeError) as error:
        raise ArtifactError(
            f"{folder / DETECTOR_FILE}: the configuration is damaged ({error})",
            remedy="train again",
        ) from error
    spec = Spec.from_dict(record["spec"], name=str(folder))
    detector = Detector(config, _backbone(config, spec, weights, folder), spec.geometry)
    path = folder / _TRAINED
    if not path.is_file() or sha256_of_file(path) != record["trained_sha256"]:
        raise ArtifactError(
            f"{path} is missing or is not the file that was saved", remedy="train again"
        )
    try:
        detector.load_trained_state(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        last = str(error).splitlines()[-1].strip()
        raise ArtifactError(f"{path} does not fit: {last}", remedy="train again") from error
    return Trained(detector.eval().to(device), spec, folder)


def read_record(folder: Path) -> dict[str, Any]:
    """The content of `detector.json`, its kind and version checked."""
    path = folder / DETECTOR_FILE
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder", remedy="check the path")
    if not path.is_file():
        raise ArtifactError(f"{folder} is not a trained detector", remedy="make one with gad train")
    record: Any = read_json(path)
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise ArtifactError(f"{path} is not a detector's", remedy="make one with gad train")
    version = record.get("version")
    if not isinstance(version, int):
        raise ArtifactError(f"{path} names no version", remedy="train again")
    if version > VERSION:
        raise ArtifactError(
            f"{folder}: version {version} is newer than the {VERSION} this reads",
            remedy="pip install --upgrade generalad",
        )
    if version < VERSION:
        raise ArtifactError(
            f"{folder}: version {version} is older than the {VERSION} this reads: scores are"
            " computed in another way now",
            remedy="train again",
        )
    if missing := {"config", "spec", "trained_sha256"} - record.keys():
        raise ArtifactError(f"{path} lacks {', '.join(sorted(missing))}", remedy="train again")
    return record


def _backbone(config: Config, spec: Spec, weights: Path | None, folder: Path) -> Backbone:
    source = spec.backbone.weights
    if weights is None and source not in (HUB, EMBEDDED) and not source.startswith(PREFIX):
        weights = folder / source  # an absolute path stays one
        if not weights.is_file():
            raise WeightsError(
                f"the backbone's weights are no longer at {weights}", remedy="give --weights FILE"
            )
    backbone, _, found = load_backbone(config, weights=weights, source=source)
    if found != spec.backbone.weights_sha256:
        raise WeightsError(
            f"these are not the backbone weights of training (sha256 {found[:12]}…, recorded"
            f" {spec.backbone.weights_sha256[:12]}…)",
            remedy="give --weights FILE with the weights used then",
        )
    backbone.mean, backbone.std = spec.backbone.mean, spec.backbone.std
    return backbone


def _hash_of(images: Sequence[NDArray[np.uint8]]) -> str:
    return sha256_of_bytes(b"".join(np.ascontiguousarray(image).tobytes() for image in images))


def _calibration_error(folder: Path) -> ArtifactError:
    return ArtifactError(
        f"the calibration images in {folder / _CALIBRATION} are missing or were changed",
        remedy="train again; the cached features make it short",
    )
