"""From a folder of good images to a detector: check, split, cache, fit, calibrate, save."""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from generalad.calibration import Calibrated, calibrate
from generalad.config import Config
from generalad.data.check import check_dataset, render_problems
from generalad.data.dataset import Dataset, Sample, open_dataset, without
from generalad.data.splits import few_shot, split_calibration
from generalad.errors import DataError
from generalad.files import read_json, sha256_of_bytes, write_json
from generalad.image_statistics import reference, statistics
from generalad.model.detector import Detector
from generalad.model.storage import Trained, load_detector, save_detector
from generalad.model.weights import licence_of, load_backbone
from generalad.preprocess import read_image, resize
from generalad.progress import Log, Progress, no_log
from generalad.spec import (
    DETECTOR_FILE,
    RESIZE_RULE,
    Backbone,
    Reference,
    Spec,
    TrainingSet,
)
from generalad.training.cache import cached_features, channel_spread, count_cached
from generalad.training.distortions import NEEDS_ATTENTION
from generalad.training.duration import estimate
from generalad.training.loop import fit
from generalad.training.objective import chance_loss, chance_warning
from generalad.training.run_folder import CHECKPOINT_FILE, claimed
from generalad.version import __version__

HISTORY_FILE = "history.json"
SELECTION_RULE = "last epoch of a fixed schedule; nothing was chosen on test images"


@dataclass(frozen=True)
class Split:
    """Good images to train on and to calibrate with, and the hash of every file's content."""

    name: str
    train: tuple[Sample, ...]
    calibration: tuple[Sample, ...]
    hashes: dict[Path, str]
    skipped: tuple[str, ...]

    def fingerprint(self) -> str:
        """One hash over the contents of all images, in order."""
        parts = [self.hashes[s.path] for s in (*self.train, *self.calibration)]
        return sha256_of_bytes("\n".join(parts).encode())


def train_detector(
    data: str | Path,
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
        data: a folder or CSV, see docs/data.md.
        out: folder of the detector.
        config: see `generalad.config`.
        weights: backbone weights for machines without a network.
        device: "cpu", "cuda", …; default: a GPU where there is one.
        skip_bad: leave out unreadable images instead of stopping.
        cache: folder of the feature cache.
        cache_memory: bytes of features that may be kept in memory.
        progress: told how far each stage is.
        log: told, before it starts, that a run will take more than an hour, and that one has
            learned nothing.

    Raises:
        DataError: the dataset has problems; the message lists them.
        UsageError: `out` belongs to another run.
        WeightsError: the backbone's weights are not to be had.
    """
    out, log = Path(out), log or no_log
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    split = split_dataset(data, config, skip_bad=skip_bad, progress=progress)
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
        hashes = [split.hashes[sample.path] for sample in split.train]
        cached: dict[str, Any] = {
            "identity": {
                "name": config.backbone,
                "layers": sorted(config.layers),
                "pool_size": config.pool_size,
                "weights": weights_hash,
                "mean": backbone.mean,
                "std": backbone.std,
            },
            "image_size": config.image_size,
            "attention": bool(NEEDS_ATTENTION & set(config.distortions)),
            "device": place,
            "folder": cache,
        }
        if not (out / CHECKPOINT_FILE).exists():
            done = count_cached(hashes, **cached)
            expected = estimate(detector, config, images=len(hashes), cached=done)
            if line := expected.announcement(config):
                log(line)
        features = cached_features(
            [sample.path for sample in split.train],
            hashes,
            backbone,
            **cached,
            budget=cache_memory,
            progress=progress,
        )
        if detector.whitening is not None:
            detector.whitening.fit(features.values)
            features = dataclasses.replace(features, whitening=detector.whitening)
        if config.noise_follows_features:
            features = dataclasses.replace(features, spread=channel_spread(features.values))
        losses = fit(
            detector.discriminator,
            features,
            config,
            device=place,
            checkpoint=out / CHECKPOINT_FILE,
            progress=progress,
        )
        images, sizes = read_resized(split.calibration, config.image_size)
        scores, peaks = score_images(detector.eval(), images, progress=progress)
        calibrated = calibrate(scores, peaks, target=config.false_alarm_rate)
        spec = describe(
            detector,
            split,
            calibrated,
            reference(scores, list(map(statistics, images)), sizes),
            source=source,
            weights_hash=weights_hash,
        )
        history: dict[str, Any] = {"loss": losses, "chance": chance_loss(config)}
        if warning := chance_warning(losses, config):
            history["warning"] = warning
            log(warning)
        write_json(out / HISTORY_FILE, history)
        save_detector(out, detector, spec, images)
        (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    return Trained(detector, spec, out)


def split_dataset(
    data: str | Path, config: Config, *, skip_bad: bool, progress: Progress | None = None
) -> Split:
    """Open and check a dataset, and split its good images into training and calibration.

    Raises:
        DataError: errors in the training or calibration images.
    """
    dataset = open_dataset(data)
    good = _only_training(dataset)
    checked = check_dataset(good, progress=progress)
    skippable = sum(problem.kind.startswith("unreadable") for problem in checked.errors)
    if len(checked.errors) > (skippable if skip_bad else 0):
        raise DataError(
            f"{data}: the good images cannot be trained on as they are:\n"
            + "\n".join(f"  {line}" for line in render_problems(checked)),
            remedy="repair them; unreadable ones can be left out with --skip-bad",
        )
    good = without(good, checked.unusable)
    hashes = dict(checked.sha256)
    train_set, held_out = _train_and_calibration(good, config, hashes)
    skipped = tuple(sorted(checked.name_of(path) for path in checked.unusable))
    return Split(dataset.name, train_set, held_out, hashes, skipped)


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


def describe(
    detector: Detector,
    split: Split,
    calibrated: Calibrated,
    reference: Reference,
    *,
    source: str,
    weights_hash: str,
) -> Spec:
    """The record of a freshly trained detector."""
    config = detector.config
    return Spec(
        method="GeneralAD",
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
        training_set=TrainingSet(split.fingerprint(), len(split.train), split.skipped),
        calibration=calibrated.calibration,
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


def _train_and_calibration(
    good: Dataset, config: Config, hashes: dict[Path, str]
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Given calibration images win; otherwise a part, or what few-shot training leaves over."""
    shots = few_shot(good.train, config.shots, config.seed)
    if good.calibration:
        return shots, good.calibration
    if not config.shots:
        rng = np.random.default_rng([config.seed, 1])
        return split_calibration(
            good.train, fraction=config.calibration_fraction, rng=rng, hashes=hashes
        )
    used = {hashes[sample.path] for sample in shots}
    rest = tuple(sample for sample in good.train if hashes[sample.path] not in used)
    if not rest:
        raise DataError(
            f"{config.shots} shots leave no good image to calibrate with",
            remedy="lower `shots` or add good images",
        )
    return shots, rest


def _only_training(dataset: Dataset) -> Dataset:
    """The dataset without its test part, which training neither needs nor may look at."""
    return dataclasses.replace(dataset, test=(), stray_masks=())
