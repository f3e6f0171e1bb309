"""From somebody else's checkpoint and a folder of good images to a detector."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.torch import save

from generalad.data.dataset import as_dataset
from generalad.errors import ArtifactError, ConfigError, UsageError, WeightsError
from generalad.files import atomic_write, make_folder, sha256_of_file, storage_error
from generalad.model.detector import Detector
from generalad.model.foreign import Foreign, check_shapes, read_foreign
from generalad.model.storage import Trained, load_detector, save_detector
from generalad.model.weights import load_backbone
from generalad.progress import Progress
from generalad.spec import IMAGENET_MEAN, IMAGENET_STD, Spec, TrainingSet
from generalad.training.calibrated_spec import calibrated_spec, score_images
from generalad.training.split import all_for_calibration

WEIGHTS_FILE = "backbone.safetensors"


def import_detector(
    checkpoint: Path,
    data: str | Path,
    out: Path,
    *,
    false_alarm_rate: float | None = None,
    skip_bad: bool = False,
    all_good: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Make a detector of a checkpoint, on the CPU; `out` appears whole or not at all.

    Args:
        checkpoint: of Lightning, see `generalad.model.foreign`.
        data: good images to set the thresholds with, which the checkpoint did not learn from.
        out: folder of the detector; must not exist, or be empty.
        false_alarm_rate: that the thresholds are set for; None for the usual one.
        skip_bad: leave out unreadable images instead of stopping.
        all_good: all images of a plain folder show good parts, see `open_dataset`.
        progress: told how far each stage is.

    Raises:
        ArtifactError: the checkpoint is damaged, holds code, or is of another model; or the
            detector that was written scores otherwise.
        DataError: the images have problems; the message lists them.
        UsageError: `out` holds something.
        WeightsError: the backbone in the checkpoint is not the one that it names.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already", remedy="choose another --out, or delete it")
    foreign = read_foreign(checkpoint)
    if false_alarm_rate is not None:
        changed = foreign.config.replaced({"false_alarm_rate": false_alarm_rate})
        foreign = dataclasses.replace(foreign, config=changed)
    dataset = as_dataset(data, all_good=all_good)
    split = all_for_calibration(dataset, skip_bad=skip_bad, progress=progress)
    with _appearing(out) as folder:
        detector, weights_hash = _detector(checkpoint, foreign, folder / WEIGHTS_FILE)
        spec, images = calibrated_spec(
            detector, split, source=WEIGHTS_FILE, weights_hash=weights_hash, progress=progress
        )
        save_detector(folder, detector, _with_origin(spec, foreign, checkpoint), images)
        written = load_detector(folder).detector
        if not np.array_equal(score_images(written, images)[0], score_images(detector, images)[0]):
            raise ArtifactError(
                f"{out}: the detector scores otherwise once it is read again",
                remedy="please report this",
            )
    return load_detector(out)


def _detector(checkpoint: Path, foreign: Foreign, weights: Path) -> tuple[Detector, str]:
    """The detector on its own backbone, which is written to `weights`, and the backbone's hash."""
    tensors = {name: value.contiguous().clone() for name, value in foreign.backbone.items()}
    with atomic_write(weights) as path:
        path.write_bytes(save(tensors))
    try:
        backbone, _, digest = load_backbone(foreign.config, weights=weights)
        # Their code normalises for every backbone alike.
        backbone.mean, backbone.std = IMAGENET_MEAN, IMAGENET_STD
        detector = Detector(foreign.config, backbone)
    except (ConfigError, WeightsError) as error:
        message = error.message.replace(str(weights), f"the backbone in {checkpoint}")
        raise WeightsError(message, remedy="give the original file") from error
    check_shapes(checkpoint, foreign.trained, detector.trained_state())

    detector.load_trained_state(foreign.trained)
    return detector.eval(), digest


def _with_origin(spec: Spec, foreign: Foreign, checkpoint: Path) -> Spec:
    """What is not known of a checkpoint is not claimed."""
    rule = "imported; how its epoch was chosen is not known"
    if "authors" in foreign.kind:
        rule = "imported; the authors' code keeps the epoch with the best AUROC on test images"
    origin = {"kind": foreign.kind, "sha256": sha256_of_file(checkpoint), **foreign.facts}
    return dataclasses.replace(
        spec,
        training_set=TrainingSet("", 0, spec.training_set.skipped),
        metrics={"selection_rule": rule},
        provenance={**spec.provenance, "imported": origin},
    )


@contextlib.contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes it in the end, and nothing after an error."""
    folder = out.with_name(f".{out.name}.{os.urandom(4).hex()}.part")
    make_folder(folder)
    try:
        yield folder
        try:
            if out.exists():
                out.rmdir()  # it is empty
            os.replace(folder, out)
        except OSError as error:
            raise storage_error(error, out) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
