"""The only place where images are decoded, brought to RGB and resized.

`pixels` does the same for images that are in memory already.

Training, calibration, export verification and production all call these functions, so a threshold
found in one is valid in the others. Decided once, for every source of images:

=====================  ===========================================================================
8-bit                  taken as it is
16-bit                 full range 0...65535 onto 0...255, never stretched by its own minimum and
                       maximum; 10- or 12-bit data must fill the range before it comes here
grey                   the one channel three times
alpha                  dropped; the colour under it counts (the decoder of 8-bit TIFF has already
                       multiplied it in)
EXIF orientation       applied
float, 32-bit          refused: the range is not known
cut-off file           refused, even where the decoder would fill the rest with grey
size                   stretched to the network's input, the aspect ratio is not kept; each axis is
                       area-averaged when it shrinks and linear when it grows
=====================  ===========================================================================
"""

from __future__ import annotations

import os
import re
from pathlib import Path

# OpenCV's own log would put decoder chatter between our one-line errors.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
)

_REPAIR = "replace or remove the file"


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image file.

    Returns:
        (H, W, 3) uint8, RGB, contiguous.

    Raises:
        DataError: the file is missing, empty, cut off, or not an image.
    """
    return decode_image(read_bytes(path), name=str(path))


def decode_image(data: bytes, *, name: str = "image") -> NDArray[np.uint8]:
    """Decode an encoded image; like `read_image`, from bytes. `name` is used in errors."""
    image = to_uint8(_decode(data, name), name=name)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Read a defect mask: (H, W) bool, every pixel that is not black is defective."""
    return decode_mask(read_bytes(path), name=str(path))


def decode_mask(data: bytes, *, name: str = "mask") -> NDArray[np.bool_]:
    """Decode an encoded mask; like `read_mask`, from bytes."""
    # Before the reduction to 8 bits, which would make small 16-bit values black.
    return np.asarray(_decode(data, name).max(axis=2) > 0)


def read_bytes(path: str | Path) -> bytes:
    """The content of a file; its absence is an error of the same form as a damaged image."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", remedy="check the path") from error
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}", remedy="check the file's permissions"
        ) from error


def _decode(data: bytes, name: str) -> NDArray[np.generic]:
    """Decode to (H, W, 3) BGR in the depth of the file."""
    if not data:
        raise DataError(f"{name}: the file is empty", remedy=_REPAIR)
    if is_cut_off(data):
        raise DataError(f"{name}: the file is cut off", remedy=_REPAIR)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise DataError(f"{name}: cannot be decoded ({error.err})", remedy=_REPAIR) from error
    if image is None:
        raise DataError(f"{name}: not an image in a known 8- or 16-bit format", remedy=_REPAIR)
    return image


def to_uint8(image: NDArray[np.generic], *, name: str = "image") -> NDArray[np.uint8]:
    """Bring 8- or 16-bit pixels to 8 bits by their type, not by their values."""
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise DataError(
        f"{name}: pixels are {image.dtype}, expected 8 or 16 bits",
        remedy="convert the image to 8- or 16-bit PNG",
    )


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Stretch an image to `size`, each axis by area when it shrinks and linearly when it grows.

    Args:
        image: (H, W, 3) uint8.
        size: (height, width) in pixels.

    Returns:
        (height, width, 3) uint8; the input itself where it already has that size.
    """
    height, width = size
    if image.shape[0] > height and image.shape[1] < width:
        image = _resize(image, (height, image.shape[1]), cv2.INTER_AREA)
    elif image.shape[0] < height and image.shape[1] > width:
        image = _resize(image, (image.shape[0], width), cv2.INTER_AREA)
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    return _resize(image, size, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _resize(image: NDArray[np.uint8], size: tuple[int, int], how: int) -> NDArray[np.uint8]:
    return cv2.resize(image, (size[1], size[0]), interpolation=how).astype(np.uint8, copy=False)


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG, PNG, BMP or WebP lacks its end; False for formats not looked into."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_is_cut_off(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_is_cut_off(data)
    if data.startswith(b"BM") and len(data) >= 6:
        return len(data) < int.from_bytes(data[2:6], "little")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    return False


# In the compressed data of a scan FF is followed by 00 or by a restart marker, D0 to D7.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


def _jpeg_is_cut_off(data: bytes) -> bool:
    # An embedded thumbnail ends with the same marker as the image, so whole segments are skipped
    # instead of searching for the last marker.
    position = 2
    while marker := _JPEG_MARKER.search(data, position):
        if marker[1] == b"\xd9":
            return False
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return True


def _png_is_cut_off(data: bytes) -> bool:
    position = 8
    while position < len(data):
        kind = data[position + 4 : position + 8]
        position += int.from_bytes(data[position : position + 4], "big") + 12
        if kind == b"IEND":
            return position > len(data)
    return True
