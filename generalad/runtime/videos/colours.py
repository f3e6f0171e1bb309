"""Videos whose colours are not those of usual screens, told by their containers.

PyAV gives colours as they are stored; OpenCV changes them where they are wide (Display P3,
BT.2020) or of high dynamic range (PQ, HLG). Numbers: ITU-T H.273. MP4: ISO/IEC 14496-12, 12.1.5.
Matroska: RFC 9559, 5.1.4.1.28.16.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from generalad.runtime.videos.structure import (
    boxes,
    content,
    inside,
    is_matroska,
    is_mp4,
    matroska_videos,
)

_USUAL = (0, 1, 2, 5, 6, 7)
"""Primaries of BT.709 and of television before it, or not known."""

HIGH_RANGE = {16: "PQ", 18: "HLG"}
"""Transfer functions, as phones record them."""


def high_range(transfer: int) -> str:
    """What is said of colours with a transfer function of that number; empty for a usual one."""
    if (kind := HIGH_RANGE.get(transfer)) is None:
        return ""
    return (
        f"of high dynamic range ({kind}), whose colours are taken as they are stored, flatter than"
        " they are shown → record or convert it to SDR"
    )


_COLOUR, _TRANSFER, _PRIMARIES = 0x55B0, 0x55BA, 0x55BB
_NUMBERED = re.compile(rb"colrncl[cx](..)(..)", re.DOTALL)


def are_unusual(path: Path) -> bool:
    """Whether a container names wide colours or a high dynamic range."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            return any(
                primaries not in _USUAL or transfer in HIGH_RANGE
                for primaries, transfer in _named(file, size)
            )
    except (OSError, ValueError, struct.error, IndexError):
        return False  # damaged: reading says so


def _named(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Primaries and transfer function of each video."""
    start = content(file, 0, 8)
    if is_mp4(start):
        for kind, first, last in list(boxes(file, 0, size)):
            if kind == b"moov":
                for found in _NUMBERED.finditer(content(file, first, last)):
                    yield int.from_bytes(found[1], "big"), int.from_bytes(found[2], "big")
    elif is_matroska(start):
        for video in matroska_videos(file, size):
            for colour in inside(file, *video, _COLOUR):
                yield _value(file, colour, _PRIMARIES), _value(file, colour, _TRANSFER)


def _value(file: BinaryIO, place: tuple[int, int], name: int) -> int:
    """Of an element within another one; 0 where it is not there."""
    for first, last in inside(file, *place, name):
        return int.from_bytes(content(file, first, last), "big")
    return 0
