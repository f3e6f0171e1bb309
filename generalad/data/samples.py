"""What a dataset is made of: samples with a label and masks, in three parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.folder_names import is_good_name
from generalad.preprocess import read_mask

GOOD = "good"
"""Label of an image without a defect; every other label is the type of a defect."""


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        path: the image file.
        label: "good" or the type of the defect.
        masks: files that mark the defect, to be united; empty where none is known.
        group: name of the photograph, lot or part that the image comes from; empty where unknown.
    """

    path: Path
    label: str
    masks: tuple[Path, ...] = ()
    group: str = ""

    @property
    def defective(self) -> bool:
        """Whether the image shows a defect."""
        return self.label != GOOD


@dataclass(frozen=True)
class Saturation:
    """How much of a defect has to be found for it to count as found, of MVTec LOCO's sPRO.

    Attributes:
        value: of the pixels that mark a defect of this kind in its mask.
        threshold: pixels of the original image, or a share of the defect's own.
        relative: whether it is a share.
    """

    value: int
    threshold: float
    relative: bool


@dataclass(frozen=True)
class Published:
    """How many images a class of a public data set has, as published.

    Attributes:
        title: of the data set.
        page: where it is to be had.
        train: images to train on.
        calibration: images given to calibrate with.
        good: good test images.
        defective: defective test images.
        masks: whether every defective image has a mask.
    """

    title: str
    page: str
    train: int
    calibration: int
    good: int
    defective: int
    masks: bool = False


@dataclass(frozen=True)
class Dataset:
    """The images of one class of parts, each part sorted by name.

    Attributes:
        name: of the folder or of the table.
        root: the folder that paths in reports are relative to.
        layout: such as "class folder", "plain folder" or "table"; docs/data.md names all.
        train: good images.
        calibration: good images given for calibration (MVTec LOCO's validation/good); where it
            is empty, calibration images are split off `train`, see splits.py.
        test: good and defective images; may be empty.
        stray_masks: masks that belong to no image.
        ignored: files that have no place in the layout, images and others.
        notes: what a user should know of this layout, a line each.
        taken_as_good: which folders good images were found in, where their names decide nothing.
        saturation: for the metric sPRO; empty for data sets without it.
        published: what is known of a public data set; None for one's own.
        origin: address in a store of objects that this is a copy of, without passwords; or empty.
    """

    name: str
    root: Path
    layout: str
    train: tuple[Sample, ...]
    calibration: tuple[Sample, ...] = ()
    test: tuple[Sample, ...] = ()
    stray_masks: tuple[Path, ...] = ()
    ignored: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    taken_as_good: str = ""
    saturation: tuple[Saturation, ...] = ()
    published: Published | None = None
    origin: str = ""


def without(dataset: Dataset, paths: Collection[Path]) -> Dataset:
    """A copy that does without some files.

    A sample whose image is among `paths` is left out; one of whose masks is among them keeps its
    label, but none of its masks, because the rest may mark only a part of the defect.

    Raises:
        DataError: no training image is left.
    """
    gone = frozenset(paths)

    def keep(samples: Iterable[Sample]) -> tuple[Sample, ...]:
        return tuple(
            dataclasses.replace(sample, masks=()) if gone.intersection(sample.masks) else sample
            for sample in samples
            if sample.path not in gone
        )

    train = keep(dataset.train)
    if not train:
        raise DataError(
            f"{dataset.root}: no usable training image is left",
            remedy="replace the unusable files",
        )
    return dataclasses.replace(
        dataset, train=train, calibration=keep(dataset.calibration), test=keep(dataset.test)
    )


def load_masks(sample: Sample, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The defective pixels of a sample, all its masks united.

    Args:
        sample: a good one has no defective pixels.
        shape: (H, W) of its image.

    Returns:
        (H, W) bool.

    Raises:
        DataError: a defective sample without masks, or a mask that cannot be read or differs in
            size from the image.
    """
    if sample.defective and not sample.masks:
        raise DataError(f"{sample.path}: no mask is known", remedy="add one or leave pixels out")
    united = np.zeros(shape, dtype=np.bool_)
    for path in sample.masks:
        mask = read_mask(path)
        if mask.shape != shape:
            raise DataError(
                f"{path}: the mask is {mask.shape[1]}x{mask.shape[0]} pixels, "
                f"its image {shape[1]}x{shape[0]}",
                remedy="draw the mask on the image itself",
            )
        united |= mask
    return united


def clean_label(text: str) -> str:
    """A label as it is written, except that "Good" is "good"."""
    return GOOD if text.strip().lower() == GOOD else text.strip()


def label_of_folder(name: str) -> str:
    """The label of images in a folder of tests: "good" in any spelling and language, or its name.

    A type of defect is never called "ok" or "normal".
    """
    return GOOD if is_good_name(name) else name.strip()
