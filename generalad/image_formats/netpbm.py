"""The PNM formats: PBM, PGM and PPM, in text and in bytes.

Read here and not by OpenCV, which takes no notice of the largest value that their header names,
and refuses whole text files without a line end. https://netpbm.sourceforge.net/doc/pnm.html
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.image_formats.header import Header, refused, several

_NUMBER = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])+([0-9]{1,9})")
_COMMENT = re.compile(rb"#[^\r\n]*")
_NO_NUMBERS = re.compile(rb"[^\s0-9]|[0-9]{10}")
_IN_TEXT = (1, 2, 3)


def netpbm(data: bytes) -> Header:
    """Of PBM, PGM or PPM; raises ValueError where it is damaged or cut off."""
    kind, width, height, largest, start = _head(data)
    name = ("PBM", "PGM", "PPM")[(kind - 1) % 3]
    if not 1 <= largest <= 65535:
        return refused(name, f"{name} whose largest value is {largest}, expected 1 to 65535")
    if kind not in _IN_TEXT:
        end = start + _row(kind, width, largest) * height
        if len(data) < end:
            raise ValueError("rows are missing")
        if len(data) > end and data[start - 1 : start + 1] == b"\r\n":
            return refused(name, f"{name} with line ends of two bytes, which move its pixels")
        rest = data[end:].strip(b" \t\r\n\0")
        if rest[:1] == b"P" and rest[1:2].isdigit():
            return several(name, "several")
        if rest:
            return refused(name, f"{name} of more bytes than its size needs")
    bits = 8 if largest < 256 else 16
    memory = 24 if kind in _IN_TEXT else 6 if bits > 8 else 3
    return Header(name, width, height, bits, memory)


def decode_netpbm(data: bytes) -> tuple[NDArray[Any], int]:
    """The pixels of a file whose header was accepted.

    Returns:
        (H, W, 3) uint8 or uint16 in the order blue, green, red, and the value of full light.

    Raises:
        ValueError: values are missing, or larger than the header says.
    """
    kind, width, height, largest, start = _head(data)
    colours = 3 if kind in (3, 6) else 1
    values: NDArray[Any]
    if kind in _IN_TEXT:
        values = _from_text(data[start:], kind, width * height * colours)
    elif kind == 4:
        packed = np.frombuffer(data, np.uint8, (width + 7) // 8 * height, start)
        values = np.unpackbits(packed.reshape(height, -1), axis=1, count=width)
    else:
        depth = np.dtype(np.uint8 if largest < 256 else ">u2")
        values = np.frombuffer(data, depth, width * height * colours, start)
    if kind in (1, 4):
        values = values ^ 1  # 1 is black
    if values.max(initial=0) > largest:
        raise ValueError(f"a value of {values.max()}, expected at most {largest}")
    pixels = values.reshape(height, width, colours)[..., ::-1]
    native = np.uint8 if largest < 256 else np.uint16
    return np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3)), native), largest


def _from_text(text: bytes, kind: int, count: int) -> NDArray[Any]:
    text = _COMMENT.sub(b" ", text)
    values: NDArray[Any]
    if kind == 1:  # digits need not be apart
        digits = np.frombuffer(text.translate(None, b" \t\r\n\v\f"), np.uint8)
        values = digits - np.uint8(ord("0"))
    elif _NO_NUMBERS.search(text):
        raise ValueError("what are no numbers")
    else:
        values = np.fromstring(text.decode("ascii").strip() or "0", np.int64, sep=" ")
    if len(values) < count:
        raise ValueError("values are missing")
    if len(values) > count:
        raise ValueError("more values than its size needs")
    return values


def _head(data: bytes) -> tuple[int, int, int, int, int]:
    """Kind, width, height, largest value, and where the pixels begin."""
    kind, position, numbers = data[1] - ord("0"), 2, []
    for _ in range(2 if kind in (1, 4) else 3):
        found = _NUMBER.match(data, position)
        if found is None:
            raise ValueError("a number is missing")
        numbers.append(int(found[1]))
        position = found.end()
    width, height, largest = (*numbers, 1)[:3]
    return kind, width, height, largest, position + 1


def _row(kind: int, width: int, largest: int) -> int:
    """Bytes of a row."""
    if kind == 4:
        return (width + 7) // 8
    return width * (3 if kind == 6 else 1) * (1 if largest < 256 else 2)
