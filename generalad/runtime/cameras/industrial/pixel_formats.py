"""Pixel formats of industrial cameras, brought to RGB by one rule each.

Names and numbers are those of the Pixel Format Naming Convention (PFNC 2.4, EMVA). A name says all
that a rule needs: what the values are, their bits, and how they are stored.

===================  ===========================================================================
stored               `8` a byte; `10` to `16` two bytes, the low one first; `10p` to `14p` bit
                     after bit, the lowest first; `10Packed`, `12Packed` two pixels in three
                     bytes, their low bits in the middle one (GigE Vision 1)
Mono                 the value three times
BayerRG, GR, GB, BG  interpolated linearly (OpenCV's bilinear rule) at the camera's bits; the
                     letters are the first two pixels of the first row
RGB, BGR             taken as they are; the fourth value of RGBa and BGRa is dropped
more than 8 bits     round(value · 255 / (2^bits - 1)), after interpolation; never stretched
anything else        refused by its name
===================  ===========================================================================
"""

from __future__ import annotations

import functools
import math
import re
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.runtime.cameras.camera import DamagedFrame

_NUMBERS = {
    "Mono8": 0x01080001,
    "Mono10": 0x01100003,
    "Mono10Packed": 0x010C0004,
    "Mono10p": 0x010A0046,
    "Mono12": 0x01100005,
    "Mono12Packed": 0x010C0006,
    "Mono12p": 0x010C0047,
    "Mono14": 0x01100025,
    "Mono14p": 0x010E0104,
    "Mono16": 0x01100007,
    "BayerGR8": 0x01080008,
    "BayerRG8": 0x01080009,
    "BayerGB8": 0x0108000A,
    "BayerBG8": 0x0108000B,
    "BayerGR10": 0x0110000C,
    "BayerRG10": 0x0110000D,
    "BayerGB10": 0x0110000E,
    "BayerBG10": 0x0110000F,
    "BayerGR12": 0x01100010,
    "BayerRG12": 0x01100011,
    "BayerGB12": 0x01100012,
    "BayerBG12": 0x01100013,
    "BayerGR10Packed": 0x010C0026,
    "BayerRG10Packed": 0x010C0027,
    "BayerGB10Packed": 0x010C0028,
    "BayerBG10Packed": 0x010C0029,
    "BayerGR12Packed": 0x010C002A,
    "BayerRG12Packed": 0x010C002B,
    "BayerGB12Packed": 0x010C002C,
    "BayerBG12Packed": 0x010C002D,
    "BayerGR16": 0x0110002E,
    "BayerRG16": 0x0110002F,
    "BayerGB16": 0x01100030,
    "BayerBG16": 0x01100031,
    "BayerBG10p": 0x010A0052,
    "BayerBG12p": 0x010C0053,
    "BayerGB10p": 0x010A0054,
    "BayerGB12p": 0x010C0055,
    "BayerGR10p": 0x010A0056,
    "BayerGR12p": 0x010C0057,
    "BayerRG10p": 0x010A0058,
    "BayerRG12p": 0x010C0059,
    "RGB8": 0x02180014,
    "BGR8": 0x02180015,
    "RGBa8": 0x02200016,
    "BGRa8": 0x02200017,
    "RGB10": 0x02300018,
    "BGR10": 0x02300019,
    "RGB12": 0x0230001A,
    "BGR12": 0x0230001B,
    "RGB16": 0x02300033,
    "BGR16": 0x0230004B,
}
_NAMES = {number: name for name, number in _NUMBERS.items()}

KNOWN = tuple(_NUMBERS)
"""The names of all formats that are read."""

_FORM = re.compile(r"(Mono|Bayer(?:RG|GR|GB|BG)|RGBa?|BGRa?)(\d+)(p|Packed)?")

# OpenCV's older names begin with the second pixel of the second row; these say what PFNC says.
_BAYER = {
    "BayerRG": cv2.COLOR_BayerRGGB2RGB,
    "BayerGR": cv2.COLOR_BayerGRBG2RGB,
    "BayerGB": cv2.COLOR_BayerGBRG2RGB,
    "BayerBG": cv2.COLOR_BayerBGGR2RGB,
}


class PixelFormat(NamedTuple):
    """A format that is read.

    Attributes:
        name: by PFNC, such as "BayerRG12p".
        values: "Mono", "BayerRG" and so on, "RGB", "RGBa", "BGR" or "BGRa".
        bits: of one value.
        storage: "" in whole bytes, "p" or "Packed".
    """

    name: str
    values: str
    bits: int
    storage: str

    @property
    def channels(self) -> int:
        """Values of one pixel."""
        return 1 if self.values.startswith(("Mono", "Bayer")) else len(self.values)

    def row_bytes(self, pixels: int) -> int:
        """Bytes of so many pixels in a row."""
        if self.storage == "p":
            return (pixels * self.bits + 7) // 8
        if self.storage == "Packed":
            return (pixels * 12 + 7) // 8
        return pixels * self.channels * (1 if self.bits == 8 else 2)


def pixel_format(number: int) -> PixelFormat | None:
    """The format with a PFNC number; None for one that is not read."""
    name = _NAMES.get(number)
    return None if name is None else named(name)


def unread(number: int, name: str) -> str:
    """What to say of a format that is not read; `name` as the camera calls it."""
    return (
        f"pixel format {name or 'of unknown name'} (0x{number & 0xFFFFFFFF:08X}) is not read;"
        " set PixelFormat to one of Mono, Bayer, RGB or BGR"
    )


@functools.cache
def named(name: str) -> PixelFormat:
    """A format of `KNOWN`."""
    match = _FORM.fullmatch(name)
    assert match is not None and name in _NUMBERS, name
    return PixelFormat(name, match[1], int(match[2]), match[3] or "")


def number_of(name: str) -> int:
    """The PFNC number of a format of `KNOWN`."""
    return _NUMBERS[name]


def to_rgb(
    data: NDArray[np.uint8], width: int, height: int, form: PixelFormat, *, padding: int = 0
) -> NDArray[np.uint8]:
    """Bring the content of a buffer to RGB.

    Args:
        data: (N,) bytes, more than the image needs are ignored.
        width: in pixels.
        height: in pixels.
        form: what the bytes are.
        padding: bytes behind each row that belong to no pixel.

    Returns:
        (height, width, 3) uint8 RGB, in memory of its own.

    Raises:
        DamagedFrame: there are too few bytes for this size, or no pixels.
    """
    values = _values(data, width, height, form, padding)
    if form.values in _BAYER:
        if min(width, height) < 3:
            raise DamagedFrame(f"{width} x {height} pixels are too few for a Bayer pattern")
        return _to_8_bits(np.asarray(cv2.cvtColor(values, _BAYER[form.values])), form.bits)
    values = _to_8_bits(values, form.bits)
    if form.values == "Mono":
        return np.asarray(cv2.cvtColor(values, cv2.COLOR_GRAY2RGB), np.uint8)
    if form.values.startswith("BGR"):
        return np.ascontiguousarray(values[..., 2::-1])
    return values[..., :3].copy()


def _values(
    data: NDArray[np.uint8], width: int, height: int, form: PixelFormat, padding: int
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(height, width) or (height, width, channels) values at the camera's bits."""
    if width < 1 or height < 1:
        raise DamagedFrame(f"an image of {width} x {height} pixels")
    # Without padding, bits go on from row to row; a padded row begins with a whole byte.
    rows, pixels = (height, width) if padding else (1, width * height)
    used = form.row_bytes(pixels)
    needed = rows * used + (rows - 1) * padding
    if data.size < needed:
        raise DamagedFrame(f"{data.size} bytes, expected {needed} for {width} x {height} pixels")
    if padding:
        full = np.zeros(rows * (used + padding), np.uint8)
        full[:needed] = data[:needed]
        stored = full.reshape(rows, -1)[:, :used]
    else:
        stored = data[:used].reshape(1, used)
    if form.storage == "p":
        values: NDArray[np.uint8] | NDArray[np.uint16] = _unpack_bits(stored, pixels, form.bits)
    elif form.storage == "Packed":
        values = _unpack_pairs(stored, pixels, form.bits)
    elif form.bits == 8:
        values = np.ascontiguousarray(stored)
    else:
        values = np.ascontiguousarray(stored).view("<u2").astype(np.uint16, copy=False)
    shape = (height, width) if form.channels == 1 else (height, width, form.channels)
    return values.reshape(shape)


def _unpack_bits(stored: NDArray[np.uint8], pixels: int, bits: int) -> NDArray[np.uint16]:
    """(rows, pixels) of values that follow each other bit by bit, the lowest first."""
    in_group = 8 // math.gcd(bits, 8)  # pixels that end with a whole byte
    step = in_group * bits // 8
    groups = -(-pixels // in_group)
    whole = np.zeros((stored.shape[0], groups * step), np.uint8)
    whole[:, : stored.shape[1]] = stored
    found = np.empty((stored.shape[0], groups, in_group), np.uint16)
    for index in range(in_group):
        first, shift = divmod(index * bits, 8)
        value = whole[:, first::step].astype(np.uint32)
        for byte in range(1, (shift + bits + 7) // 8):
            value |= whole[:, first + byte :: step].astype(np.uint32) << (8 * byte)
        found[:, :, index] = value >> shift & ((1 << bits) - 1)
    return found.reshape(stored.shape[0], -1)[:, :pixels]


def _unpack_pairs(stored: NDArray[np.uint8], pixels: int, bits: int) -> NDArray[np.uint16]:
    """(rows, pixels) of values of which two stand in three bytes."""
    groups, low = -(-pixels // 2), bits - 8
    whole = np.zeros((stored.shape[0], groups * 3), np.uint8)
    whole[:, : stored.shape[1]] = stored
    first, middle, last = (whole[:, byte::3].astype(np.uint16) for byte in range(3))
    found = np.empty((stored.shape[0], groups, 2), np.uint16)
    found[:, :, 0] = first << low | middle & ((1 << low) - 1)
    found[:, :, 1] = last << low | middle >> 4 & ((1 << low) - 1)
    return found.reshape(stored.shape[0], -1)[:, :pixels]


def _to_8_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Full light onto 255; what lies above, in bits that a format does not use, is full light."""
    if bits == 8:
        return np.asarray(values, np.uint8)
    scaled = cv2.convertScaleAbs(values, alpha=255 / ((1 << bits) - 1))
    return np.asarray(scaled, np.uint8).reshape(values.shape)
