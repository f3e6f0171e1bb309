"""What an export is compared on: calibration images, views and defects of them, labelled images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.data.dataset import Dataset, Sample, as_dataset, load_masks
from generalad.errors import DataError
from generalad.geometry.geometry import Geometry
from generalad.geometry.outside import changed_inside, with_defect_inside
from generalad.geometry.placement import PartNotFound, frame_of, prepare
from generalad.preprocess import read_image
from generalad.synth.drawn_defects import with_defect
from generalad.synth.views import views_of

CALIBRATION, VIEWS, DEFECTS, LABELLED = "calibration", "views", "drawn defects", "labelled"

MOST_DEFECTS = 64
"""Images with drawn defects: enough to rank by, few enough for a large model on a small CPU."""


@dataclass(frozen=True)
class ImageSet:
    """A set of n images with what is known of them.

    Attributes:
        name: one of the four above.
        images: (n, H, W, 3) uint8 RGB, at the network's input size.
        defective: (n,) bool.
        masks: True where defective, any size; None for a good image or an unknown mask.
    """

    name: str
    images: NDArray[np.uint8]
    defective: NDArray[np.bool_]
    masks: tuple[NDArray[np.bool_] | None, ...]

    def __len__(self) -> int:
        return len(self.images)


def image_sets(
    calibration: NDArray[np.uint8],
    verify_on: str | Path | Dataset | None = None,
    *,
    views: bool = False,
    geometry: Geometry | None = None,
) -> tuple[ImageSet, ...]:
    """The sets an export is judged on.

    Args:
        calibration: (n, H, W, 3) uint8 RGB, held-out good images; of frames in tiles, tiles.
        verify_on: a dataset with labelled test images.
        views: whether the thresholds keep views of the calibration images in account.
        geometry: what of a frame is judged.

    Raises:
        DataError: `verify_on` has no test images, or some cannot be read.
    """
    if geometry is not None and geometry.tiles is not None:
        calibration = np.stack([frame_of(tile, geometry) for tile in calibration])
    good = np.zeros(len(calibration), dtype=np.bool_)
    sets = [
        ImageSet(CALIBRATION, calibration, good, (None,) * len(good)),
        _drawn(calibration, geometry),
    ]
    if views:
        shown = np.stack(changed_inside(list(calibration), views_of, geometry))
        sets.append(ImageSet(VIEWS, shown, good, (None,) * len(good)))
    if verify_on is not None:
        height, width = calibration.shape[1:3]
        sets.append(_labelled(verify_on, (height, width), geometry))
    return tuple(sets)


def _drawn(calibration: NDArray[np.uint8], geometry: Geometry | None) -> ImageSet:
    if geometry is not None and geometry.tiles is not None:
        return _drawn_in_tiles(calibration, geometry.tiles.side)
    count = min(len(calibration), MOST_DEFECTS)
    chosen = np.linspace(0, len(calibration) - 1, count).round().astype(int)
    pairs = [
        with_defect_inside(calibration[place], index, with_defect, geometry)
        for index, place in enumerate(chosen)
    ]
    images, masks = zip(*pairs, strict=True)
    return ImageSet(DEFECTS, np.stack(images), np.ones(count, dtype=np.bool_), masks)


def _drawn_in_tiles(frames: NDArray[np.uint8], side: int) -> ImageSet:
    """A defect in one place of each frame, as in a tile; masks would be as large as frames."""
    rng, drawn = np.random.default_rng(0), frames.copy()
    for number, frame in enumerate(drawn):
        top, left = (int(rng.integers(length - side + 1)) for length in frame.shape[:2])
        place = frame[top : top + side, left : left + side]
        place[:] = with_defect(place, number)[0]
    count = len(drawn)
    return ImageSet(DEFECTS, drawn, np.ones(count, dtype=np.bool_), (None,) * count)


def _labelled(
    data: str | Path | Dataset, size: tuple[int, int], geometry: Geometry | None
) -> ImageSet:
    dataset = as_dataset(data)
    samples = dataset.test
    if not samples:
        raise DataError(
            f"{dataset.root} has no labelled test images to verify on",
            remedy="add test/good and test/DEFECT, or a bad folder; see docs/data.md",
        )
    with ThreadPoolExecutor(max_workers=2) as pool:
        loaded = list(pool.map(lambda sample: _load(sample, size, geometry), samples))
    found = [(sample, *one) for sample, one in zip(samples, loaded, strict=True) if one is not None]
    if not found:
        raise DataError(f"{dataset.root}: the part was found in none of the labelled test images")
    shown, images, masks = zip(*found, strict=True)
    defective = np.array([sample.defective for sample in shown])
    return ImageSet(LABELLED, np.stack(images), defective, masks)


def _load(
    sample: Sample, size: tuple[int, int], geometry: Geometry | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None] | None:
    """None where the part is not found."""
    image = read_image(sample.path)
    known = sample.defective and sample.masks
    mask = load_masks(sample, (image.shape[0], image.shape[1])) if known else None
    try:
        prepared = prepare(image, size, geometry)
    except PartNotFound:
        return None
    if mask is not None and prepared.placement is not None:
        mask = prepared.placement.mask(mask)
    return prepared.pixels, mask
