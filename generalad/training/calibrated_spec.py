"""Thresholds of a new detector from its calibration images, and the spec that records them."""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from generalad.calibration import HELD_OUT, OUT_OF_FOLD, Calibrated, calibrate, outliers_of
from generalad.data.dataset import Sample
from generalad.geometry.geometry import Geometry
from generalad.geometry.outside import changed_inside
from generalad.geometry.placement import prepare
from generalad.image_statistics import Statistics, reference, statistics
from generalad.model.detector import Detector
from generalad.model.weights import licence_of
from generalad.preprocess import read_image
from generalad.progress import Progress
from generalad.spec import (
    RESIZE_RULE,
    Backbone,
    DrawnMisses,
    Reference,
    Spec,
    TrainingSet,
)
from generalad.synth.views import views_of
from generalad.training.drawn_misses import drawn_misses
from generalad.training.split import Split
from generalad.version import __version__

MOST_KEPT = 200
"""Images kept with a detector that was calibrated out of fold, at random: an export compares its
scores on them with the detector's, and finds no thresholds in them."""


TILES_KEPT = 4
"""Tiles of calibration frames that are kept: an export compares frames that are made of one each,
and a whole frame takes seconds."""


@dataclass(frozen=True)
class CalibrationScores:
    """Scores of good images by heads that did not learn from them.

    Attributes:
        scores: (n,) raw image scores.
        peaks: (n,) largest raw map values.
        views: the same of a view of each image; None for methods that do not look at views.
        folds: number of heads; 0 where the images were held out.
    """

    scores: NDArray[np.float32]
    peaks: NDArray[np.float32]
    views: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    folds: int


def calibrated_spec(
    detector: Detector,
    split: Split,
    found: CalibrationScores | None = None,
    *,
    source: str,
    weights_hash: str,
    geometry: Geometry | None = None,
    progress: Progress | None = None,
) -> tuple[Spec, list[NDArray[np.uint8]]]:
    """Set the thresholds on the calibration images of a split; the record of a new detector.

    Args:
        detector: in evaluation mode.
        split: its calibration images are scored.
        found: their scores, where they are known; None for images that were held out.
        source: of the backbone's weights.
        weights_hash: of these.
        geometry: what of each image is judged.
        progress: called with ("calibration", images done, images).

    Returns:
        The spec, and the calibration images (H, W, 3) uint8 RGB at the network's size that an
        export needs; of frames in tiles some tiles.
    """
    config = detector.config
    tiled = geometry is not None and geometry.tiles is not None
    if geometry is not None and tiled:
        images, sizes, looks = read_frames(split.calibration, geometry, seed=config.seed)
    else:
        images, sizes = read_resized(split.calibration, config.image_size, geometry)
        looks = list(map(statistics, images))
    found = found or _held_out_scores(detector, images, geometry, progress)
    groups = split.grouping.numbers(split.calibration)
    names = [f"{sample.path.parent.name}/{sample.path.name}" for sample in split.calibration]
    outliers = outliers_of(found.scores, names, lengths=detector.head.gives_lengths)
    calibrated = calibrate(
        found.scores,
        found.peaks,
        target=config.false_alarm_rate,
        groups=groups,
        grouping=split.grouping.what,
        folds=found.folds,
        source=OUT_OF_FOLD if found.folds else HELD_OUT,
        views=found.views,
        outliers=outliers,
        names=names,
    )
    far = [one.number for one in outliers]
    # Of frames in tiles the drawn ones would take minutes each.
    misses = (
        ()
        if tiled
        else drawn_misses(
            lambda drawn: score_images(detector, drawn)[0],
            [image for number, image in enumerate(images) if number not in far],
            np.delete(found.scores, far),
            np.delete(groups, far).tolist(),
            views=None if found.views is None else np.delete(found.views[0], far),
            geometry=geometry,
        )
    )
    spec = describe(
        detector,
        split,
        calibrated,
        misses,
        reference(np.delete(found.scores, far), looks, sizes),
        source=source,
        weights_hash=weights_hash,
        geometry=geometry,
    )
    if found.folds and not tiled and len(images) > MOST_KEPT:
        chosen = np.random.default_rng([config.seed, 8]).permutation(len(images))[:MOST_KEPT]
        images = [images[index] for index in np.sort(chosen)]
    return spec, images


def read_resized(
    samples: Sequence[Sample], image_size: tuple[int, int], geometry: Geometry | None = None
) -> tuple[list[NDArray[np.uint8]], list[tuple[int, int]]]:
    """Images (H, W, 3) uint8 RGB at the network's size, and (height, width) of the originals."""
    images, sizes = [], []
    for sample in samples:
        image = read_image(sample.path)
        sizes.append((image.shape[0], image.shape[1]))
        images.append(prepare(image, image_size, geometry).pixels)
    return images, sizes


def read_frames(
    samples: Sequence[Sample], geometry: Geometry, *, seed: int
) -> tuple[list[NDArray[np.uint8]], list[tuple[int, int]], list[Statistics]]:
    """Of frames that are cut: a tile of some, (height, width) of all, and what all look like."""
    assert geometry.tiles is not None
    size, side = geometry.tiled_size(), geometry.tiles.side
    rng = np.random.default_rng([seed, 11])
    chosen = set(rng.permutation(len(samples))[:TILES_KEPT].tolist())
    tiles, sizes, looks = [], [], []
    for number, sample in enumerate(samples):
        image = read_image(sample.path)
        sizes.append((image.shape[0], image.shape[1]))
        pixels = prepare(image, size, geometry).pixels
        looks.append(statistics(pixels))
        if number in chosen:
            top, left = (length - side for length in size)
            row, column = int(rng.integers(top + 1)), int(rng.integers(left + 1))
            tiles.append(pixels[row : row + side, column : column + side].copy())
    return tiles, sizes, looks


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
    geometry: Geometry | None,
    progress: Progress | None,
) -> CalibrationScores:
    """Scores of held-out images, and of a view of each for methods that learn from views."""
    scores, peaks = score_images(detector, images, progress=progress)
    views = None
    if detector.config.learns_from_views:
        views = score_images(
            detector, changed_inside(images, views_of, geometry), progress=progress
        )
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
    geometry: Geometry | None = None,
) -> Spec:
    """The record of a freshly trained detector."""
    config = detector.config
    return Spec(
        method=detector.head.title,
        class_name=split.name,
        image_size=detector.image_size,
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
        metrics={},
        provenance={
            "generalad": __version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
            "device": str(next(detector.parameters()).device),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        },
        reference=reference,
        geometry=geometry,
    )
