"""Whether a file is whole, told from its own lengths and its end."""

from __future__ import annotations

import re
import struct


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG, PNG, BMP or WebP lacks its end; False for formats not looked into."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_is_cut_off(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_is_cut_off(data)
    if data.startswith(b"BM"):
        return _bmp_is_cut_off(data)
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
        # In a scan no byte FF is followed by D9 but at the end, so most files are known by that.
        if marker[1] == b"\xda" and position < len(data) and data.endswith(b"\xff\xd9"):
            return False
    return True


def _png_is_cut_off(data: bytes) -> bool:
    position = 8
    while position < len(data):
        kind = data[position + 4 : position + 8]
        position += int.from_bytes(data[position : position + 4], "big") + 12
        if kind == b"IEND":
            return position > len(data)
    return True


def _bmp_is_cut_off(data: bytes) -> bool:
    """By its rows: the size of the file that its header names is wrong in many whole files."""
    if len(data) < 34:
        return True
    start, header = struct.unpack_from("<II", data, 10)
    if header == 12:  # OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packed = 0
    else:
        width, height, _, bits, packed = struct.unpack_from("<iiHHI", data, 18)
    if packed in (1, 2):  # run lengths, which are not read
        return False
    return bool(len(data) < start + (abs(width) * bits + 31) // 32 * 4 * abs(height))
