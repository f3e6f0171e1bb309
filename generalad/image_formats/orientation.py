"""An orientation that stands where not all programs look for it: XMP, and texts of PNG.

EXIF is followed by all: that of JPEG, of WebP, of a chunk of PNG, and the tag of TIFF. Pillow and
Adobe's programs follow XMP where EXIF says nothing; browsers, OpenCV and ImageMagick do not. So it
is not certain which way up such an image was looked at and labelled.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from generalad.errors import DataError
from generalad.image_formats.tiff import orientation_of

_NAMESPACE = b"http://ns.adobe.com/tiff/1.0/"
_PREFIX = re.compile(rb"xmlns:(\w+)\s*=\s*[\"']" + re.escape(_NAMESPACE))
_PACKET = 1 << 16
"""Bytes about the name of the namespace in which the orientation is looked for."""

_MOST_TEXT = 1 << 20
_PROFILES = (b"Raw profile type exif", b"Raw profile type APP1")
_XMP_OF_PNG = b"XML:com.adobe.xmp"


def check_orientation(data: bytes, name: str) -> None:
    """Refuse an image that some programs turn for display and others do not.

    Args:
        data: an image file that is whole.
        name: used in errors.

    Raises:
        DataError: it is one.
    """
    is_png = data.startswith(b"\x89PNG")
    found = {"XMP": 0 if is_png else _of_xmp(data)}
    for keyword, text in _texts(data) if is_png else ():
        if keyword == _XMP_OF_PNG:
            found["XMP"] = found["XMP"] or _of_xmp(text)
        elif keyword in _PROFILES:
            found["a text of PNG"] = _of_profile(text)
    where = [name for name, orientation in found.items() if orientation > 1]
    if where and orientation_of(data, unsaid=0) == 0:  # what EXIF says counts, with all programs
        raise DataError(
            f"{name}: to be turned for display as only {where[0]} says, which not all programs"
            " follow",
            remedy="save it upright",
        )


def _of_xmp(data: bytes) -> int:
    """What a packet of XMP says, 1 to 8; 0 where it says nothing."""
    place = data.find(_NAMESPACE)
    prefix = None if place < 0 else _PREFIX.search(data, max(0, place - 80), place + 80)
    if prefix is None:
        return 0
    said = re.compile(rb"[\s<]" + prefix[1] + rb":Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\b")
    found = said.search(data, max(0, place - _PACKET), place + _PACKET)
    return int(found[1]) if found else 0


def _texts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keyword and text of those chunks of a PNG that may say an orientation."""
    position = 8
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        kind, start = data[position + 4 : position + 8], position + 8
        position = start + size + 4
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        keyword, _, text = data[start : start + size].partition(b"\0")
        if keyword == _XMP_OF_PNG or keyword in _PROFILES:
            yield keyword, _unpacked(kind, text)


def _unpacked(kind: bytes, text: bytes) -> bytes:
    """The text of a chunk, behind its keyword; empty where it is damaged."""
    packed = kind == b"zTXt"
    text = text[1:] if packed else text
    if kind == b"iTXt":
        packed = text[:1] == b"\1"
        text = text[2:].partition(b"\0")[2].partition(b"\0")[2]
    try:
        return zlib.decompressobj().decompress(text, _MOST_TEXT) if packed else text
    except zlib.error:
        return b""


def _of_profile(text: bytes) -> int:
    """What EXIF in hexadecimal digits says, as ImageMagick writes it: a name, a length, lines."""
    *_, digits = text.split(maxsplit=2) or [b""]
    try:
        profile = bytes.fromhex(b"".join(digits.split()).decode("ascii"))
    except ValueError:
        return 0
    return orientation_of(b"Exif\0\0" + profile.removeprefix(b"Exif\0\0"), unsaid=0)
