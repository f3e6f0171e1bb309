"""What one reading of an image or mask shows, for the check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generalad.data.masks import doubt_about, is_lossy, is_turned_in_doubt
from generalad.data.near_copies import signature
from generalad.errors import DataError
from generalad.files import sha256_of_bytes
from generalad.image_formats.accept import read_header
from generalad.image_statistics import Statistics, statistics
from generalad.label_images import has_few_values
from generalad.preprocess import Depths, decode_image, decode_mask_values, read_bytes


@dataclass(frozen=True)
class InspectedFile:
    """An image or mask.

    Attributes:
        path: of the file.
        error: why it cannot be read; empty where it can.
        sha256: of its content; empty where that cannot be had.
        shape: height and width in pixels.
        grey: whether all colours of an image are equal.
        narrow: whether an image has 16 bits and no value of more than 14.
        deep: whether it has 16 bits.
        few_values: whether a good image has so few as no photograph, see `label_images`.
        mosaic: whether an image looks like the raw data of a colour camera, see `is_mosaic`.
        turned: whether EXIF data turns an image so that its size stays the same.
        smaller: whether the file of an image holds smaller ones beside it.
        marked: whether a mask marks anything.
        doubt: a kind of doubt about a mask, see `masks`.
        signature: of a good image, to find near-copies.
        looks: of a good image, of every so many of its pixels.
    """

    path: Path
    error: str = ""
    sha256: str = ""
    shape: tuple[int, int] = (0, 0)
    grey: bool = False
    narrow: bool = False
    deep: bool = False
    smaller: bool = False
    turned: bool = False
    mosaic: bool = False
    few_values: bool = False
    marked: bool = False
    doubt: str = ""
    signature: NDArray[np.uint8] | None = None
    looks: Statistics | None = None


@dataclass(frozen=True)
class InspectionTask:
    """A file to be read: an image, with or without signature, or a mask."""

    path: Path
    mask: bool = False
    signed: bool = False


def inspect_file(task: InspectionTask) -> InspectedFile:
    """Read a file once; nothing is raised for its faults."""
    path, content, depths = task.path, "", Depths()
    try:
        data = read_bytes(path)
        content = sha256_of_bytes(data)
        if task.mask:
            return _inspect_mask(path, content, data)
        image = decode_image(data, name=str(path), depths=depths)
        header = read_header(data)
    except DataError as error:
        return InspectedFile(path, error.message.removeprefix(f"{path}: "), content)
    grey = bool(np.array_equal(image[..., 0], image[..., 1]))
    grey = grey and bool(np.array_equal(image[..., 1], image[..., 2]))
    return InspectedFile(
        path,
        "",
        content,
        (image.shape[0], image.shape[1]),
        grey=grey,
        few_values=task.signed and has_few_values(_sampled(image).max(axis=2)),
        mosaic=grey and is_mosaic(image[..., 0]),
        narrow=depths.narrow > 0,
        deep=depths.deep > 0,
        smaller=header is not None and header.smaller,
        turned=is_turned_in_doubt(data),
        signature=signature(image) if task.signed else None,
        looks=statistics(_sampled(image, _LOOKED_SIDE)) if task.signed else None,
    )


_SAMPLED_SIDE = 400  # pixels, at most, of the image whose values are counted
_LOOKED_SIDE = 200  # the same of the one that is described


def _sampled(image: NDArray[np.uint8], most: int = _SAMPLED_SIDE) -> NDArray[np.uint8]:
    """Every so many pixels, as they are."""
    down, across = (1 + side // most for side in image.shape[:2])
    return np.ascontiguousarray(image[::down, ::across])


_MOSAIC_SIDE = 512  # pixels in the middle that are looked at
_MOSAIC_RATIO, _MOSAIC_STEP = 1.3, 2.0


def is_mosaic(grey: NDArray[np.uint8]) -> bool:
    """Whether neighbours differ more than pixels that are two apart, along both axes.

    So it is in the raw data of a colour camera (Bayer), where every other pixel lies behind another
    filter. In images of things neighbours are the more alike, and in noise both are equal.

    Args:
        grey: (H, W) uint8.
    """
    top, left = (max(0, (side - _MOSAIC_SIDE) // 2) for side in grey.shape)
    part = grey[top : top + _MOSAIC_SIDE, left : left + _MOSAIC_SIDE].astype(np.int16)
    if min(part.shape) < 8:
        return False
    for values in (part, part.T):
        near = float(np.abs(values[1:] - values[:-1]).mean())
        if near < _MOSAIC_STEP or near < _MOSAIC_RATIO * np.abs(values[2:] - values[:-2]).mean():
            return False
    return True


def _inspect_mask(path: Path, content: str, data: bytes) -> InspectedFile:
    values = decode_mask_values(data, name=str(path))
    return InspectedFile(
        path,
        "",
        content,
        (values.shape[0], values.shape[1]),
        marked=bool(values.any()),
        doubt=doubt_about(values, lossy=is_lossy(data)),
    )
