"""The header of TIFF: which of its many kinds are read.

TIFF 6.0 (Adobe, 1992) and BigTIFF. What OpenCV reads wrong is refused: separate planes and
min-is-white of 16 bits, tiles of an image that is to be turned. Pages beside the first are looked
at only for being pages.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping

from generalad.image_formats.header import Header, refused, several
from generalad.image_formats.tiff_end import another_follows

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS = 254, 256, 257, 258, 259, 262
_ORIENTATION, _BELOW, _DEPTH = 274, 330, 32997
_SAMPLES, _PLANES, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA, _FORMAT = 277, 284, 322, 323, 338, 339
_XMP = 700
_TAGS = frozenset(
    {
        *(_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _SAMPLES, _PLANES),
        *(_TILE_WIDTH, _TILE_HEIGHT, _EXTRA, _FORMAT, _ORIENTATION, _BELOW, _DEPTH),
    }
)
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # whole numbers, as in all of these

_PACKING = {1: 1, 5: 2000, 7: 1100, 8: 1100, 32773: 64, 32946: 1100}
"""Bytes of pixels that one byte stands for at most, where that is known of a compression."""

_MOST_PAGES, _MOST_BELOW = 10_000, 64
_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_OTHERS = {4: "a mask", 5: "inks (CMYK)", 8: "Lab", 32803: "camera raw", 34892: "camera raw"}

_UNASSOCIATED = 2  # alpha that has not been multiplied into the colours; libtiff does that

Tags = Mapping[int, tuple[int, ...]]


def tiff(data: bytes) -> Header:
    """Of TIFF; raises ValueError or struct.error where it is damaged."""
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    [place] = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    pages: list[Tags] = []
    below: list[Tags] = []  # pages of pages: smaller copies, or in raw files the image itself
    seen: set[int] = set()
    todo = [(place, False)]
    while todo:
        place, is_below = todo.pop()
        if not place or (is_below and place in seen):  # listed, and following another one
            continue
        if place in seen or len(seen) > _MOST_PAGES:
            raise ValueError("directories in a circle")
        seen.add(place)
        tags, following = _directory(data, place, order, big)
        (below if is_below else pages).append(tags)
        todo += [(following, is_below), *((inner, True) for inner in tags.get(_BELOW, ()))]
    first, *others = pages or [{}]
    if _is_part_of_another(first):
        return refused("TIFF", "TIFF that begins with a thumbnail or a mask")
    count = sum(not _is_part_of_another(page) for page in others)
    if not count:
        count = sum(_is_as_large(page, first) for page in (*below, *others))
    if count:
        return several("TIFF", count + 1, "pages")
    header = _header(first)
    if not header.refused and another_follows(data, seen, order, big=big):
        return several("TIFF", "several")
    return header._replace(smaller=bool(others or below))


_EXIF = re.compile(rb"Exif\0\0(?=II|MM)|eXIf(?=II|MM)|EXIF....(?=II|MM)", re.DOTALL)
_EXIF_WITHIN = 1 << 18


def orientation_of(data: bytes, *, unsaid: int = 1) -> int:
    """How an image is to be turned for display, 1 to 8, as its TIFF or EXIF tags say.

    Args:
        data: the file.
        unsaid: what is returned where they do not say it.
    """
    if not data.startswith((b"II*\0", b"MM\0*")):
        found = _EXIF.search(data, 0, _EXIF_WITHIN) or _EXIF.search(data, len(data) - _EXIF_WITHIN)
        data = data[found.end() :] if found else b""
    order = "<" if data.startswith(b"II") else ">"
    try:
        [place] = struct.unpack_from(order + "I", data, 4)
        tags, _ = _directory(data, place, order, big=False)
    except (struct.error, ValueError):
        return unsaid
    found_value = tags.get(_ORIENTATION, (0,))[0]
    return found_value if 1 <= found_value <= 8 else unsaid


def _is_part_of_another(page: Tags) -> bool:
    """Whether a page is a smaller copy or a mask of another one."""
    return page.get(_SUBFILE, (0,))[0] & 5 > 0


def _is_as_large(page: Tags, first: Tags) -> bool:
    """Whether a page, which is no mask, has the pixels of the first or more."""
    pixels = [tags.get(_WIDTH, (0,))[0] * tags.get(_HEIGHT, (0,))[0] for tags in (page, first)]
    return pixels[0] >= pixels[1] and not page.get(_SUBFILE, (0,))[0] & 4


def _header(tags: Tags) -> Header:
    width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
    samples, colours = tags.get(_SAMPLES, (1,))[0], tags[_COLOURS][0]
    all_bits, extra = set(tags.get(_BITS, (1,))), len(tags.get(_EXTRA, ()))
    bits = max(all_bits)
    if reason := _refusal(tags, samples - extra, colours, all_bits):
        return refused("TIFF", f"TIFF {reason}")
    if (depth := tags.get(_DEPTH, (1,))[0]) > 1:
        return several("TIFF", depth, "slices")
    tile = tags.get(_TILE_WIDTH, (0,))[0] * tags.get(_TILE_HEIGHT, (0,))[0]
    if tile > max(4 * width * height, 1 << 22):
        return refused("TIFF", "TIFF whose tiles are larger than the image")
    blended = tags.get(_EXTRA, (0,))[0] == _UNASSOCIATED and bits == 8 and samples > 3
    return Header(
        "TIFF",
        width,
        height,
        max(bits, 8),
        6 if bits > 8 else 8 if blended else 3,
        _PACKING.get(tags.get(_COMPRESSION, (1,))[0], math.inf) * 8 / bits,
        lossy=tags.get(_COMPRESSION, (1,))[0] in (6, 7),
        alpha=extra > 0,
        blended=blended,
        described=_XMP in tags,
    )


def _refusal(tags: Tags, samples: int, colours: int, all_bits: set[int]) -> str:
    """Why an image of this kind is not read; empty where it is."""
    bits = max(all_bits)
    if set(tags.get(_FORMAT, (1,))) - {1, 4}:
        return "of numbers with a sign or a fraction"
    if colours not in (_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _YCBCR):
        return f"of {_OTHERS.get(colours, f'colours of kind {colours}')}"
    if samples != (3 if colours in (_RGB, _YCBCR) else 1) or len(tags.get(_EXTRA, ())) > 1:
        return f"of {tags.get(_SAMPLES, (1,))[0]} channels that are neither grey nor RGB"
    if len(all_bits) > 1 or bits not in (1, 8, 16):
        return f"of {' and '.join(map(str, sorted(all_bits)))} bits, expected 1, 8 or 16"
    if bits == 1 and colours not in (_WHITE_IS_ZERO, _GREY):
        return "of 1 bit in colour"
    if bits == 16 and colours in (_PALETTE, _YCBCR):
        return "of 16 bits with a palette or YCbCr"
    if bits == 16 and colours == _WHITE_IS_ZERO:
        return "of 16 bits whose white is 0 (min-is-white)"
    if tags.get(_ORIENTATION, (1,))[0] > 1 and _TILE_WIDTH in tags:
        return "in tiles that is to be turned for display"
    if bits == 16 and tags.get(_PLANES, (1,))[0] == 2 and samples > 1:
        return "of 16 bits whose colours lie in separate planes"
    return ""


def _directory(data: bytes, place: int, order: str, big: bool) -> tuple[Tags, int]:
    """The tags of a directory that matter, and the place of the next one."""
    head, entry, inline, word = ("Q", 20, 8, "Q") if big else ("H", 12, 4, "I")
    [count] = struct.unpack_from(order + head, data, place)
    start = place + struct.calcsize(order + head)
    if start + count * entry > len(data):
        raise ValueError("a directory is cut off")
    tags: dict[int, tuple[int, ...]] = {}
    for number in range(count):
        at = start + number * entry
        tag, kind, values = struct.unpack_from(order + "HH" + word, data, at)
        if tag == _BELOW and values > _MOST_BELOW:
            raise ValueError("too many pages in a page")
        if tag == _XMP:
            tags[tag] = (values,)
        if tag not in _TAGS or tag in tags or kind not in _TYPES or not 1 <= values <= 64:
            continue
        form = f"{order}{values}{_TYPES[kind]}"
        at += entry - inline
        if struct.calcsize(form) > inline:
            [at] = struct.unpack_from(order + word, data, at)
        tags[tag] = struct.unpack_from(form, data, at)
    [following] = struct.unpack_from(order + word, data, start + count * entry)
    return tags, following
