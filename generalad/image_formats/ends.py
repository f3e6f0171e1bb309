"""Where the image in a file ends: whether it is whole, and whether another one follows."""

from __future__ import annotations

import re
import struct
from itertools import islice

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_ANOTHER_JPEG = re.compile(_JPEG)
_IMAGES = re.compile(
    rb"\x89PNG\r\n\x1a\n|GIF8[79]a|II[*+]\0|MM\0[*+]|RIFF....WEBP|\0\0\0\x0cjP  |\xff\x4f\xff\x51"
    rb"|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0|P[1-6]\s+\d+\s+\d+\s"
    rb"|....ftyp(?:avi[fs]|hei[cx]|mif1)",
    re.DOTALL,
)
"""Beginnings of images but JPEG."""
_MOST_TRIED = 100  # what looks like an image behind a JPEG, but is part of a video, say
_MOST_SEGMENTS = 100


def image_end(data: bytes) -> int:
    """Where a JPEG, PNG, BMP or WebP ends, behind the last byte of the file if it is cut off.

    That of the file for formats not looked into, and for a JPEG whose file ends as one does:
    further ones are looked for with its header.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg_end(data)
    if data.startswith(_PNG):
        return _png_end(data)
    if data.startswith(b"BM"):
        return _bmp_end(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return int.from_bytes(data[4:8], "little") + 8
    return len(data)


_BLOCK = bytes(4096)
"""Of a file system, as disks have them: what was not written of a file reads as zeros."""


def was_not_written(data: bytes) -> bool:
    """Whether all from the start of a block of the disk to the end is zeros.

    So power losses and broken transfers leave files whose size was set before. Black pixels begin
    there by chance, in one of 4096 images that are black up to their end; compressed ones never.
    """
    if not data.endswith(_BLOCK):
        return False
    written = len(data.rstrip(b"\0"))
    return written > 0 and (written % len(_BLOCK) == 0 or data.startswith(b"RIFF"))


def another_begins(data: bytes, end: int) -> bool:
    """Whether a second image begins behind the end of the first and what fills up.

    Smaller images behind a JPEG are usual, see `jpeg_behind`, which is asked for them.
    """
    rest = data[end:].lstrip(b"\r\n ")  # a box of ISO's formats begins with zeros
    if _IMAGES.match(rest) or _IMAGES.match(rest := rest.lstrip(b"\0\r\n ")):
        return True
    return not data.startswith(_JPEG) and rest.startswith((_JPEG, data[:2]))


def jpeg_behind(data: bytes, start: int) -> tuple[int, int] | None:
    """Width and height of the largest JPEG that begins behind `start`; None if there is none."""
    found = _ANOTHER_JPEG.finditer(data, start)
    sizes = [size for place in islice(found, _MOST_TRIED) if (size := _size(data, place.start()))]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _size(data: bytes, position: int) -> tuple[int, int] | None:
    """Of a JPEG whose segments follow each other without a gap up to its frame."""
    position += 2
    for _ in range(_MOST_SEGMENTS):
        if len(data) < position + 9 or data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker in (0xC0, 0xC1, 0xC2):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return (width, height) if data[position + 4] == 8 and width and height else None
        if not 0xC4 <= marker <= 0xFE or 0xD0 <= marker <= 0xDA:
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


# In the compressed data of a scan FF is followed by 00 or by a restart marker, D0 to D7.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


def _jpeg_end(data: bytes) -> int:
    # An embedded thumbnail ends with the same marker as the image, so whole segments are skipped
    # instead of searching for the last marker.
    position = 2
    while marker := _JPEG_MARKER.search(data, position):
        if marker[1] == b"\xd9":
            return marker.end()
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        # In a scan no byte FF is followed by D9 but at the end, so most files are known by that.
        if marker[1] == b"\xda" and position < len(data) and data.endswith(b"\xff\xd9"):
            return len(data)
    return len(data) + 1


def _png_end(data: bytes) -> int:
    position = 8
    while position < len(data):
        kind = data[position + 4 : position + 8]
        position += int.from_bytes(data[position : position + 4], "big") + 12
        if kind == b"IEND":
            return position
    return len(data) + 1


def _bmp_end(data: bytes) -> int:
    """By its rows: the size of the file that its header names is wrong in many whole files."""
    if len(data) < 34:
        return len(data) + 1
    start, header = struct.unpack_from("<II", data, 10)
    if header == 12:  # OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packed = 0
    else:
        width, height, _, bits, packed = struct.unpack_from("<iiHHI", data, 18)
    if packed in (1, 2):  # run lengths, which are not read
        return len(data)
    return int(start + (abs(width) * bits + 31) // 32 * 4 * abs(height))
