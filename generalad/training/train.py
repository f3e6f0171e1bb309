"""From a folder of good images to a detector: check, split, cache, fit, calibrate, save."""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from generalad.calibration import HELD_OUT, OUT_OF_FOLD, Calibrated, calibrate
from generalad.config import Config
from generalad.data.dataset import Dataset, Sample
from generalad.files import read_json, write_json
from generalad.image_statistics import reference, statistics
from generalad.model.detector import Detector
from generalad.model.storage import Trained, load_detector, save_detector
from generalad.model.weights import licence_of, load_backbone
from generalad.preprocess import read_image, resize
from generalad.progress import Log, Progress, no_log, no_progress
from generalad.spec import (
    DETECTOR_FILE,
    RESIZE_RULE,
    Backbone,
    DrawnMisses,
    Reference,
    Spec,
    TrainingSet,
)
from generalad.synth.views import views_of
from generalad.training.drawn_misses import drawn_misses
from generalad.training.duration import estimate
from generalad.training.few_images import CalibrationScores, fit_on_all
from generalad.training.input_size import in_shape_of_images
from generalad.training.methods import Material, fit_head
from generalad.training.objective import chance_loss, chance_warning
from generalad.training.run_folder import CHECKPOINT_FILE, claimed
from generalad.training.split import Split, split_dataset
from generalad.version import __version__

HISTORY_FILE = "history.json"
SELECTION_RULE = "last epoch of a fixed schedule; nothing was chosen on test images"


def train_detector(
    data: str | Path | Dataset,
    out: str | Path,
    config: Config,
    *,
    weights: Path | None = None,
    device: str | None = None,
    skip_bad: bool = False,
    cache: Path | None = None,
    cache_memory: int | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
) -> Trained:
    """Train a detector on the good images of a dataset; goes on with a run that was interrupted.

    Args:
        data: a folder or CSV, see docs/data.md, or a dataset that was opened.
        out: folder of the detector.
        config: see `generalad.config`.
        weights: backbone weights for machines without a network.
        device: "cpu", "cuda", …; default: a GPU where there is one.
        skip_bad: leave out unreadable images instead of stopping.
        cache: folder of the feature cache.
        cache_memory: bytes of features that may be kept in memory.
        progress: told how far each stage is.
        log: told, before it starts, that a run will take more than an hour or that a public data
            set is not whole, and at its end that it has learned nothing.

    Raises:
        DataError: the dataset has problems; the message lists them.
        UsageError: `out` belongs to another run.
        WeightsError: the backbone's weights are not to be had.
    """
    out, log = Path(out), log or no_log
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    split = split_dataset(data, config, skip_bad=skip_bad, progress=progress)
    if split.incomplete:
        log(f"{split.incomplete}; the data set is not whole")
    config = in_shape_of_images(config, split.sizes)
    backbone, source, weights_hash = load_backbone(config, weights=weights)
    identity = {
        "config": config.to_dict(),
        "training_images": split.fingerprint(),
        "weights_sha256": weights_hash,
    }
    with claimed(out, identity):
        if (out / DETECTOR_FILE).exists():
            (out / CHECKPOINT_FILE).unlink(missing_ok=True)  # a kill may have come in between
            _repeat_warning(out, log)
            return load_detector(out, weights=weights, device=place)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)  # initial values of the discriminator
            detector = Detector(config, backbone).to(place)
        material = Material(
            split.train,
            split.calibration,
            split.hashes,
            backbone,
            config,
            weights_hash=weights_hash,
            device=place,
            folder=cache,
            budget=cache_memory,
            progress=progress or no_progress,
        )
        if config.has_epochs and not (out / CHECKPOINT_FILE).exists():
            expected = estimate(
                detector, config, images=len(split.train), cached=material.cached_good()
            )
            if line := expected.announcement(config):
                log(line)
        found = None
        if split.out_of_fold:
            groups = split.grouping.numbers(split.calibration)
            losses, found = fit_on_all(detector, material, groups, config, device=place)
        else:
            losses = fit_head(
                detector.head, material, config, device=place, checkpoint=out / CHECKPOINT_FILE
            )
        spec, images = calibrated_spec(
            detector.eval(),
            split,
            found,
            source=source,
            weights_hash=weights_hash,
            progress=progress,
        )
        history: dict[str, Any] = {"loss": losses}
        if config.method in ("generalad", "simplenet"):
            history["chance"] = chance_loss(config)
            if warning := chance_warning(losses, config):
                history["warning"] = warning
                log(warning)
        write_json(out / HISTORY_FILE, history)
        save_detector(out, detector, spec, images)
        (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    return Trained(detector, spec, out)


def calibrated_spec(
    detector: Detector,
    split: Split,
    found: CalibrationScores | None = None,
    *,
    source: str,
    weights_hash: str,
    progress: Progress | None = None,
) -> tuple[Spec, list[NDArray[np.uint8]]]:
    """Set the thresholds on the calibration images of a split; the record of a new detector.

    Args:
        detector: in evaluation mode.
        split: its calibration images are scored.
        found: their scores, where they are known; None for images that were held out.
        source: of the backbone's weights.
        weights_hash: of these.
        progress: called with ("calibration", images done, images).

    Returns:
        The spec, and the calibration images (H, W, 3) uint8 RGB at the network's size.
    """
    config = detector.config
    images, sizes = read_resized(split.calibration, config.image_size)
    found = found or _held_out_scores(detector, images, config, progress)
    groups = split.grouping.numbers(split.calibration)
    calibrated = calibrate(
        found.scores,
        found.peaks,
        target=config.false_alarm_rate,
        groups=groups,
        grouping=split.grouping.what,
        folds=found.folds,
        source=OUT_OF_FOLD if found.folds else HELD_OUT,
        views=found.views,
    )
    misses = drawn_misses(
        lambda drawn: score_images(detector, drawn)[0],
        images,
        found.scores,
        groups,
        views=None if found.views is None else found.views[0],
    )
    spec = describe(
        detector,
        split,
        calibrated,
        misses,
        reference(found.scores, list(map(statistics, images)), sizes),
        source=source,
        weights_hash=weights_hash,
    )
    return spec, images


def read_resized(
    samples: Sequence[Sample], image_size: tuple[int, int]
) -> tuple[list[NDArray[np.uint8]], list[tuple[int, int]]]:
    """Images (H, W, 3) uint8 RGB at the network's size, and (height, width) of the originals."""
    images, sizes = [], []
    for sample in samples:
        image = read_image(sample.path)
        sizes.append((image.shape[0], image.shape[1]))
        images.append(resize(image, image_size))
    return images, sizes


@torch.inference_mode()
def score_images(
    detector: Detector,
    images: Sequence[NDArray[np.uint8]],
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Raw scores (n,) and largest map values (n,) of images (H, W, 3) uint8 RGB."""
    device = next(detector.parameters()).device
    scores, peaks = [], []
    for first in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.stack(images[first : first + batch_size])).to(device)
        score, maps = detector(batch)
        scores.append(score.cpu().numpy())
        peaks.append(maps.amax(dim=(1, 2)).cpu().numpy())
        if progress is not None:
            progress("calibration", min(first + batch_size, len(images)), len(images))
    return np.concatenate(scores), np.concatenate(peaks)


def _held_out_scores(
    detector: Detector,
    images: Sequence[NDArray[np.uint8]],
    config: Config,
    progress: Progress | None,
) -> CalibrationScores:
    """Scores of held-out images, and of a view of each for methods that learn from views."""
    scores, peaks = score_images(detector, images, progress=progress)
    views = None
    if config.learns_from_views:
        views = score_images(detector, views_of(images), progress=progress)
    return CalibrationScores(scores, peaks, views, folds=0)


def describe(
    detector: Detector,
    split: Split,
    calibrated: Calibrated,
    misses: tuple[DrawnMisses, ...],
    reference: Reference,
    *,
    source: str,
    weights_hash: str,
) -> Spec:
    """The record of a freshly trained detector."""
    config = detector.config
    return Spec(
        method=detector.head.title,
        class_name=split.name,
        image_size=config.image_size,
        map_size=detector.map_size,
        resize=RESIZE_RULE,
        top_k=detector.top_k,
        backbone=Backbone(
            config.backbone,
            tuple(sorted(config.layers)),
            source,
            weights_hash,
            licence=licence_of(config.backbone),
            mean=detector.backbone.mean,
            std=detector.backbone.std,
        ),
        training_set=TrainingSet(
            split.fingerprint(), len(split.train), split.skipped, split.digests()
        ),
        calibration=dataclasses.replace(calibrated.calibration, drawn_misses=misses),
        thresholds=calibrated.thresholds,
        normalisation=calibrated.normalisation,
        metrics={"selection_rule": SELECTION_RULE},
        provenance={
            "generalad": __version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
            "device": str(next(detector.parameters()).device),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        },
        reference=reference,
    )


def _repeat_warning(out: Path, log: Log) -> None:
    """What was said at the end of a run that is loaded again."""
    if (out / HISTORY_FILE).is_file():
        history: Any = read_json(out / HISTORY_FILE)
        if isinstance(history, dict) and "warning" in history:
            log(str(history["warning"]))
