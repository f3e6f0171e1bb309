"""Images in memory, arrays and those of Pillow, brought to RGB by the decisions of `preprocess`."""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeGuard

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError, UsageError
from generalad.preprocess import to_uint8, upright


class PillowImage(Protocol):
    """An image of Pillow, which need not be installed."""

    @property
    def mode(self) -> str:
        """Such as "RGB"."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""

    def getexif(self) -> Any:
        """Where its orientation stands."""


Pixels = NDArray[Any] | PillowImage
"""An image in memory, see `to_rgb`."""


def is_pixels(image: object) -> TypeGuard[Pixels]:
    """Whether it is an array, or an image of Pillow."""
    return isinstance(image, np.ndarray) or _is_pillow(image)


def _is_pillow(image: object) -> bool:
    # Without loading it: where it was not loaded, nothing can be of it.
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def to_rgb(image: object, *, bgr: bool = False, name: str = "image") -> NDArray[np.uint8]:
    """Bring pixels in memory to RGB, by the same decisions as those of a file.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or uint16, RGB order; or an image of
            Pillow.
        bgr: the array's order is that of OpenCV, BGR or BGRA; an image of Pillow knows its own.
        name: used in errors.

    Returns:
        (H, W, 3) uint8, RGB; the array itself, not a copy, where it is that already.

    Raises:
        UsageError: another type, shape, kind of pixels or mode.
        DataError: an image of Pillow that cannot be decoded.
    """
    if isinstance(image, np.ndarray):
        check_pixels(image, name=name)
        pixels = image
    elif _is_pillow(image):
        pixels, bgr = _from_pillow(image, name), False
    else:
        raise UsageError(
            f"{name}: expected a path, an array or an image of Pillow, found"
            f" {type(image).__module__}.{type(image).__qualname__}",
            remedy="bring it to an array (H, W, 3) uint8, RGB",
        )
    if pixels.dtype != np.uint8:
        pixels = to_uint8(pixels.astype(np.uint16, copy=False), name=name)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    if bgr:
        code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGB
        return np.asarray(cv2.cvtColor(pixels, code), np.uint8)
    return np.ascontiguousarray(pixels[..., :3]) if pixels.shape[2] == 4 else pixels


def check_pixels(image: NDArray[Any], *, name: str = "image") -> None:
    """Refuse an array that is no image of 8 or 16 bits."""
    shape = image.shape
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[2] not in (1, 3, 4)):
        remedy = "give one image (H, W, 3), or several as (B, H, W, 3) or a list"
        if image.ndim == 3 and shape[0] in (1, 3, 4):
            remedy = "the colours seem to come first: image.transpose(1, 2, 0)"
        raise UsageError(
            f"{name}: expected shape (H, W, 3) or (H, W), found {shape}", remedy=remedy
        )
    if not image.size:
        raise UsageError(f"{name}: expected at least one pixel, found shape {shape}")
    if image.dtype.kind == "u" and image.dtype.itemsize <= 2:
        return
    found, remedy = str(image.dtype), "image.astype(np.uint8), if its values are 0 to 255"
    if image.dtype.kind == "f":
        low, high = float(image.min()), float(image.max())
        found += " with NaN" if low != low else f" from {low:.4g} to {high:.4g}"
        if 0 <= low <= high <= 1:
            remedy = "(image * 255).round().astype(np.uint8)"
    raise UsageError(f"{name}: expected pixels of uint8 (or uint16), found {found}", remedy=remedy)


_PILLOW_MODES = {
    **dict.fromkeys(("RGB", "L", "RGBA", "I;16", "I;16L", "I;16B", "I;16N"), ""),  # as they are
    **dict.fromkeys(("1", "LA"), "L"),
    # By way of RGBA, because Pillow warns where it would drop the alpha of a palette.
    **dict.fromkeys(("P", "PA", "RGBa"), "RGBA"),
    **dict.fromkeys(("CMYK", "YCbCr", "HSV", "RGBX"), "RGB"),
}
"""Modes that can be read, and what each is converted to first."""

_ORIENTATION = 0x0112  # the number of this entry in EXIF


def _from_pillow(image: Any, name: str) -> NDArray[Any]:
    """Upright pixels (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16."""
    if image.mode not in _PILLOW_MODES:
        raise UsageError(
            f"{name}: expected a mode of 8 or 16 bits, found Pillow's mode {image.mode}",
            remedy="convert it to a mode whose range is known, such as RGB, L or I;16",
        )
    target = _PILLOW_MODES[image.mode]
    try:
        pixels = np.asarray(image.convert(target) if target else image)
        # After the pixels: where Pillow turns them itself, it removes the entry then.
        orientation = image.getexif().get(_ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
        raise DataError(
            f"{name}: cannot be decoded ({error})", remedy="replace or remove it"
        ) from error
    check_pixels(pixels, name=name)
    return upright(pixels, orientation)
