"""What a video's container says of itself, read without FFmpeg: its parts, and whether it is whole.

The length of a file is told by its container for certain, where counts of frames and durations are
estimates, or those of the sound. MP4: ISO/IEC 14496-12. Matroska: RFC 9559. AVI: OpenDML 1.02.
ASF: its specification, 3.2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MP4 = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_MATROSKA = b"\x1a\x45\xdf\xa3"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SEGMENT, _TRACKS, _TRACK, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_PROGRAM = b"\0\0\x01\xba"
_MOST = 1 << 20  # bytes of a box that is read; what is looked at are some hundreds


def is_mp4(start: bytes) -> bool:
    """Whether a file that begins so (8 bytes) is MP4 or QuickTime."""
    return start[4:8] in _MP4


def is_matroska(start: bytes) -> bool:
    """Whether a file that begins so is Matroska or WebM."""
    return start.startswith(_MATROSKA)


def is_whole(path: Path) -> bool | None:
    """Whether a file is as long as its container says; None where it does not say."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = content(file, 0, 16)
            if is_mp4(start):
                return _mp4_is_whole(file, size)
            if is_matroska(start):
                return _matroska_is_whole(file, size)
            if start[:4] == b"RIFF":
                return _avi_is_whole(file, size)
            if start == _ASF:
                return _asf_is_whole(file, size)
            if start[:4] == _PROGRAM:
                return True  # recorded from the air, they begin and end anywhere
            if packet := _packet_of_transport(content(file, 0, 400)):
                return size % packet == 0  # but with a whole packet
    except (OSError, ValueError, struct.error, IndexError):
        pass
    return None


def boxes(file: BinaryIO, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box of MP4; the last may end behind `end`."""
    while position + 8 <= end:
        file.seek(position)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            [size] = struct.unpack(">Q", file.read(8))
            head = 16
        size = size or end - position
        if size < head:
            return
        yield kind, position + head, position + size
        position += size


def content(file: BinaryIO, start: int, end: int) -> bytes:
    """The bytes of a box, as far as they are to be looked at."""
    file.seek(start)
    return file.read(max(0, min(end - start, _MOST)))


def elements(file: BinaryIO, position: int, end: int, name: int) -> Iterator[tuple[int, int]]:
    """Start and end of the content of the elements of a name in EBML; -1 where it is not known."""
    while position < end:
        found, position = _number(file, position, keep=True)
        size, position = _number(file, position, keep=False)
        if found == name:
            yield position, position + size if size >= 0 else -1
        position = position + size if size >= 0 else end


def inside(file: BinaryIO, position: int, end: int, name: int) -> Iterator[tuple[int, int]]:
    """As `elements`; those of unknown size end where they lie in does."""
    for first, last in elements(file, position, end, name):
        yield first, end if last < 0 else min(last, end)


def matroska_videos(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Start and end of what Matroska says of each video track."""
    for segment in inside(file, 0, size, _SEGMENT):
        for tracks in inside(file, *segment, _TRACKS):
            for track in inside(file, *tracks, _TRACK):
                yield from inside(file, *track, _VIDEO)
            return  # the frames follow


def _mp4_is_whole(file: BinaryIO, size: int) -> bool | None:
    ends = {kind: last for kind, _, last in boxes(file, 0, size)}
    return max(ends.values()) <= size if b"moov" in ends else None


def _matroska_is_whole(file: BinaryIO, size: int) -> bool | None:
    for _, last in elements(file, 0, size, _SEGMENT):
        return last <= size if last >= 0 else None
    return None


def _avi_is_whole(file: BinaryIO, size: int) -> bool | None:
    """Of one RIFF chunk, or several of a long file."""
    position = 0
    while position + 12 <= size:
        kind, length, form = struct.unpack("<4sI4s", content(file, position, position + 12))
        if kind != b"RIFF" or form not in (b"AVI ", b"AVIX") or length < 4:
            return None if position == 0 else True  # something else follows
        position += 8 + length + length % 2
    return position <= size + 1


def _packet_of_transport(start: bytes) -> int:
    """Bytes of a packet: 188, or 192 with a time before each; 0 where it is no such stream."""
    for at, size in ((0, 188), (4, 192)):
        if start[at : at + 1] == start[at + size : at + size + 1] == b"G":
            return size
    return 0


def _asf_is_whole(file: BinaryIO, size: int) -> bool | None:
    head = content(file, 0, _MOST)
    place = head.find(_ASF_PROPERTIES)
    if place < 0:
        return None
    [length] = struct.unpack_from("<Q", head, place + 40)
    [flags] = struct.unpack_from("<I", head, place + 88)
    return None if flags & 1 or not length else length <= size


def _number(file: BinaryIO, position: int, *, keep: bool) -> tuple[int, int]:
    """A number of EBML with or without the bit that tells its length, and where it ends."""
    file.seek(position)
    first = file.read(1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        raise ValueError("a number of no length")
    data = bytes([first]) + file.read(length - 1)
    value = int.from_bytes(data, "big")
    if keep:
        return value, position + length
    most = (1 << 7 * length) - 1
    return -1 if value & most == most else value & most, position + length
