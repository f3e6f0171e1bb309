"""Where the image of a TIFF ends: whether another one follows that no directory names.

Directories name the places of all that belongs to them. Behind the last of these may lie another
file, or, as ImageJ and tifffile write stacks, further images of which a text alone tells.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from generalad.image_formats.ends import another_begins

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
"""Bytes of a value, by its type."""

_NUMBERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_PARTS = ((273, 279), (324, 325), (513, 514))  # places and lengths: strips, tiles, one JPEG
_COMPRESSION, _INNER = 259, (34665, 34853, 40965)  # Exif, GPS, interoperability

_Values = Mapping[int, tuple[int, ...]]


def another_follows(data: bytes, places: Iterable[int], order: str, *, big: bool) -> bool:
    """Whether a second image lies behind all that the directories name.

    Args:
        data: the file.
        places: of its directories, which were read before.
        order: "<" or ">".
        big: whether it is BigTIFF.
    """
    end, pixels, packed = 0, 0, False
    todo = list(places)
    for place in todo:
        try:
            last, values = _directory(data, place, order, big)
        except struct.error:  # one of those within: what it names is not looked at
            continue
        end = max(end, last)
        todo += [inner for tag in _INNER for inner in values.get(tag, ()) if inner not in todo]
        packed |= values.get(_COMPRESSION, (1,)) != (1,)
        for starts, lengths in _PARTS:
            begun, sizes = values.get(starts, ()), values.get(lengths, ())
            if len(begun) != len(sizes):
                return False  # it is not known where it ends
            pixels += sum(sizes)
            end = max((end, *(at + size for at, size in zip(begun, sizes, strict=True))))
    if end >= len(data):
        return False
    return another_begins(data, end) or (not packed and 0 < pixels <= len(data[end:].strip(b"\0")))


def _directory(data: bytes, place: int, order: str, big: bool) -> tuple[int, _Values]:
    """Where a directory ends with all that it names itself, and its values that are places."""
    head, entry, inline, word = ("Q", 20, 8, "Q") if big else ("H", 12, 4, "I")
    [count] = struct.unpack_from(order + head, data, place)
    start = place + struct.calcsize(order + head)
    end = start + count * entry + inline
    if end > len(data):
        raise struct.error("cut off")
    wanted = {tag for part in _PARTS for tag in part} | {_COMPRESSION, *_INNER}
    found: dict[int, tuple[int, ...]] = {}
    for at in range(start, end - inline, entry):
        tag, kind, number = struct.unpack_from(order + "HH" + word, data, at)
        size, begin = _SIZES.get(kind, 0) * number, at + entry - inline
        if size > inline:
            [begin] = struct.unpack_from(order + word, data, begin)
            end = max(end, begin + size)
        if tag in wanted and kind in _NUMBERS and begin + size <= len(data):
            found[tag] = struct.unpack_from(f"{order}{number}{_NUMBERS[kind]}", data, begin)
    return end, found
