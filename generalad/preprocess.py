"""The only place where images are decoded, brought to RGB and resized.

`pixels` does the same for images that are in memory already.

Training, calibration, export verification and production all call these functions, so a threshold
found in one is valid in the others. Decided once, for every source of images:

=====================  ===========================================================================
8-bit                  taken as it is
16-bit                 full range 0...65535 onto 0...255, never stretched by its own minimum and
                       maximum; refused where all values lie below 4096, as those of 10 and 12 bits
PGM, PPM               the largest value that the header names onto 255
grey                   the one channel three times
alpha                  dropped; the colour under it counts (refused where the decoder changes it)
EXIF orientation       applied; refused where it stands in XMP or a text of PNG only
float, 32-bit          refused: the range is not known
other layouts          refused where the decoder is not known to be right (`image_formats`)
cut-off file           refused, even where the decoder would fill the rest with grey
size in the header     refused above a limit, before anything is decoded
no regular file        refused without being read: a pipe blocks, a device has no end
size                   stretched to the network's input, the aspect ratio is not kept; each axis is
                       area-averaged when it shrinks and linear when it grows
=====================  ===========================================================================
"""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

# OpenCV's own log would put decoder chatter between our one-line errors.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.image_formats.accept import DAMAGED, LIMIT_SETTING, check_header, limit_bytes
from generalad.image_formats.ends import was_not_written
from generalad.image_formats.header import Header
from generalad.image_formats.headers import without_profile

_LARGE = 48 << 20
"""Bytes of an image that is not held twice: 16 megapixels."""

NARROW = 4095
"""16-bit values up to here are taken for 10 or 12 bits: nothing is that dark in every pixel."""


_FOURTEEN_BITS = 2**14 - 1


class Depths:
    """Whether images of 16 bits use no more than 14, as cameras of 14 bits leave them.

    One dark image may be so; where all of a source are, they are read too dark. For any thread.
    """

    def __init__(self) -> None:
        self.deep = self.narrow = 0
        self._lock = threading.Lock()

    def see(self, pixels: NDArray[Any], largest: int) -> None:
        """Take an image as it is in its file, and its value of full light."""
        if largest == 65535:
            narrow = int(pixels.max()) <= _FOURTEEN_BITS
            with self._lock:
                self.deep += 1
                self.narrow += narrow

    def in_words(self) -> str:
        """A warning with its remedy; empty where some image uses more, or none has 16 bits."""
        if not self.narrow or self.narrow < self.deep:
            return ""
        return (
            f"{self.deep} image{'s' * (self.deep > 1)} of 16 bits without any value above"
            f" {_FOURTEEN_BITS}, as cameras of 14 bits leave them: read as dark → scale the values"
            " to 0...65535 when saving, or save 8 bits"
        )


def read_image(path: str | Path, *, depths: Depths | None = None) -> NDArray[np.uint8]:
    """Read an image file; `depths` is shown its values.

    Returns:
        (H, W, 3) uint8, RGB, contiguous.

    Raises:
        DataError: the file is missing, empty, cut off, too large, or no image that is read.
    """
    return decode_image(read_bytes(path), name=str(path), depths=depths)


def decode_image(
    data: bytes, *, name: str = "image", depths: Depths | None = None
) -> NDArray[np.uint8]:
    """Decode an encoded image; like `read_image`, from bytes. `name` is used in errors."""
    header = check_header(data, name)
    if was_not_written(data):  # of a mask, which is black as a rule, it would say little
        raise DataError(
            f"{name}: the file was not written to its end, zeros follow", remedy=DAMAGED
        )
    if header.blended:
        _refuse_transparent(data, header, name)
    pixels, largest = _decode(data, header, name)
    if depths is not None:
        depths.see(pixels, largest)
    return swap_red_and_blue(to_uint8(pixels, largest=largest, name=name))


def _refuse_transparent(data: bytes, header: Header, name: str) -> None:
    """Of an image whose decoder would change the colours of its transparent pixels."""
    pixels = _by_decoder(data, header, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim < 3 or pixels.shape[2] < 4:
        return
    if pixels[..., 3].min() < 255:
        raise DataError(
            f"{name}: {header.kind} that is transparent in parts, whose colours there are lost",
            remedy="save it without transparency",
        )


def swap_red_and_blue(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB to BGR or back, (H, W, 3); of a large image in its own memory, some rows at a time."""
    if image.size <= _LARGE:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    rows = max(1, _LARGE // (8 * image[0].size))
    for top in range(0, len(image), rows):
        part = image[top : top + rows]
        part[:] = cv2.cvtColor(part, cv2.COLOR_BGR2RGB)
    return image


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Read a defect mask: (H, W) bool, every pixel that is not black is defective."""
    return decode_mask(read_bytes(path), name=str(path))


def decode_mask(data: bytes, *, name: str = "mask") -> NDArray[np.bool_]:
    """Decode an encoded mask; like `read_mask`, from bytes."""
    return np.asarray(decode_mask_values(data, name=name) > 0)


def decode_mask_values(data: bytes, *, name: str = "mask") -> NDArray[Any]:
    """(H, W) uint8 or uint16: how bright a mask is, or how opaque where it is partly transparent.

    Raises:
        DataError: as `read_image`; or what is opaque is partly black, so that both could be meant,
            or may have to be turned.
    """
    header = check_header(data, name)
    # Not brought to 8 bits, which would make small 16-bit values black.
    values = np.asarray(_decode(data, header, name)[0].max(axis=2))
    if not header.alpha:
        return values
    pixels = _by_decoder(data, header, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim < 3 or pixels.shape[2] != 4:
        return values
    opaque = np.asarray(pixels[..., 3])
    if opaque.min() == opaque.max():
        return values
    if header.kind in ("PNG", "WebP") and (b"eXIf" in data or b"EXIF" in data):
        raise DataError(  # the decoder turns colours as EXIF says, but not what is opaque
            f"{name}: the mask is partly transparent and has EXIF data, which may turn it",
            remedy="save it as PNG in black and white, without transparency",
        )
    shown = values[opaque > 0] if opaque.shape == values.shape else values
    if shown.min() == 0 and shown.max() > 0:
        raise DataError(
            f"{name}: the mask is partly transparent and partly black, either could be meant",
            remedy="save it as PNG in black and white, without transparency",
        )
    return opaque


def read_bytes(path: str | Path) -> bytes:
    """The content of an image file; what is wrong with it is an error as of a damaged image.

    Raises:
        DataError: it is missing, cannot be opened, is no regular file, or is larger than any image
            at the limit.
    """
    limit = limit_bytes()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _no_file(path)
        # Where it was replaced in between: a pipe is opened without waiting for its other end.
        descriptor = os.open(path, os.O_RDONLY | _NO_WAIT)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _no_file(path)
            data = b"" if found.st_size > limit else file.read(found.st_size)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", remedy="check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: {reason}", remedy="check the file's permissions") from error
    if found.st_size > limit:
        raise DataError(
            f"{path}: a file of {found.st_size / 1e6:.0f} MB, expected at most"
            f" {limit / 1e6:.0f} MB",
            remedy=f"make the image smaller, or set {LIMIT_SETTING} higher in the environment",
        )
    return data


_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def _no_file(path: str | Path) -> DataError:
    kind = "a directory" if os.path.isdir(path) else "a pipe, a device or a socket"
    return DataError(f"{path}: {kind}, expected a file", remedy="remove it, or name another path")


def _decode(data: bytes, header: Header, name: str) -> tuple[NDArray[Any], int]:
    """Decode to (H, W, 3) BGR in the depth of the file, and the value of full light."""
    if data[:2] in _NETPBM:
        from generalad.image_formats.netpbm import decode_netpbm

        try:
            return decode_netpbm(data)
        except ValueError as error:
            raise DataError(f"{name}: damaged or cut off: {error}", remedy=DAMAGED) from error
    how, orientation = _AS_COLOUR, 1
    if header.described:
        from generalad.image_formats.orientation import check_orientation  # most runs need it not

        check_orientation(data, name)
    if header.kind == "PNG":
        data = without_profile(data)
    elif header.kind == "WebP":
        from generalad.image_formats.tiff import orientation_of  # most runs need it not

        orientation = orientation_of(data)
        how |= cv2.IMREAD_IGNORE_ORIENTATION  # older versions of OpenCV do not turn WebP
    try:
        image = _by_decoder(data, header, how)
    except cv2.error as error:
        raise DataError(f"{name}: cannot be decoded ({error.err})", remedy=DAMAGED) from error
    if image is None:
        raise DataError(
            f"{name}: a {header.kind} that OpenCV cannot decode: damaged, or of a kind it lacks",
            remedy=f"save it again, as PNG for certain, or {DAMAGED}",
        )
    if header.kind == "JPEG" and not header.layered:
        _refuse_missing_end(data, image, name)
    if orientation > 1:
        image = upright(image, orientation)
    return image, 65535 if image.dtype == np.uint16 else 255


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo an EXIF orientation; what is none of 2 to 8 is upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _refuse_missing_end(data: bytes, image: NDArray[Any], name: str) -> None:
    """Of a JPEG; where its last pixels lie depends on how it was turned."""
    corners = [image[y, x] for y in (0, -1) for x in (0, -1)]
    if not any((corner == 128).all() for corner in corners):
        return
    from generalad.image_formats.jpeg_scan import ends_early  # most runs need it not

    how = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    if ends_early(data, lambda given: _from_buffer(given, how)):
        raise DataError(
            f"{name}: the file is damaged: pixels at the end are missing", remedy=DAMAGED
        )


def _by_decoder(data: bytes, header: Header, how: int) -> NDArray[Any] | None:
    """As `cv2.imdecode`; large images out of a file in memory."""
    ways = [_from_buffer, _from_file]
    if header.width * header.height * 3 > _LARGE:
        ways.reverse()
    image = ways[0](data, how)
    if image is None and header.kind == "TIFF":
        # OpenCV 5.0 reads out of a buffer no tiles whose size is no multiple of 1024 bytes, and
        # out of a file none that lie on their side.
        image = ways[1](data, how)
    return image


def _from_buffer(data: bytes, how: int) -> NDArray[Any] | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), how)


def _from_file(data: bytes, how: int) -> NDArray[Any] | None:
    """As `cv2.imdecode`, whose result is copied once more: it needs twice the memory.

    What is read from a file is not, so where the system has files in memory, it is one.
    """
    try:
        descriptor = os.memfd_create("image")
    except (AttributeError, OSError):
        return _from_buffer(data, how)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        try:
            image = cv2.imread(f"/proc/self/fd/{descriptor}", dst=None, flags=how)
        except TypeError:  # OpenCV below 4.11
            image = _from_buffer(data, how)
    finally:
        os.close(descriptor)
    return image if image is not None and image.size else None


_AS_COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
_NETPBM = tuple(b"P%d" % number for number in range(1, 7))


def to_uint8(
    image: NDArray[Any], *, largest: int | None = None, name: str = "image"
) -> NDArray[np.uint8]:
    """Bring 8- or 16-bit pixels to 8 bits by their type, not by their values.

    Args:
        image: uint8 or uint16.
        largest: the value of full light; None for the largest of the type.
        name: used in errors.

    Raises:
        DataError: another type, or 16 bits of which only the lowest 12 are used.
    """
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{name}: pixels are {image.dtype}, expected 8 or 16 bits",
            remedy="convert the image to 8- or 16-bit PNG",
        )
    full = 255 if image.dtype == np.uint8 else 65535
    if full == 65535 and largest in (None, full) and image.size:
        high = int(image.max())
        if high <= NARROW and int(image.min()) < high:
            raise DataError(
                f"{name}: 16 bits, but no value above {high}: {max(high.bit_length(), 8)} bits in"
                " 16, which would be read almost black",
                remedy="scale the values to 0...65535 when saving, or save 8 bits",
            )
    if (largest or full) == 255:
        return image.astype(np.uint8, copy=False)
    scaled = cv2.convertScaleAbs(image, alpha=255 / (largest or full))
    return np.asarray(scaled, np.uint8).reshape(image.shape)


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
