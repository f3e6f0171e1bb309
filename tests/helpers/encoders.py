"""Image files of odd kinds, written by the letter of their formats."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]

_ADAM7 = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)),
    (1, 0, 2, 1),
)  # first row, first column, step down, step across


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    values: Array, bits: int, colour: int, *, extra: bytes = b"", interlaced: bool = False
) -> bytes:
    """PNG of any kind; `values` (H, W, C) as they stand in the file, `extra` chunks before IDAT."""
    height, width = values.shape[:2]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(
        b"".join(b"\0" + _packed(row.ravel(), bits) for row in values[top::down, left::across])
        for top, left, down, across in passes
        if values[top::down, left::across].size
    )
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def _packed(row: Array, bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    if bits == 8:
        return row.astype(np.uint8).tobytes()
    spread = (row[:, None].astype(np.uint8) >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1
    return np.packbits(spread.ravel()).tobytes()


def empty_png(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header names a size that its few pixels do not fill."""
    small = png(np.zeros((1, 1, 3 if colour == 2 else 1), np.uint8), bits, colour)
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return small[:8] + chunk(b"IHDR", head) + small[33:]


def bmp(
    values: Array,
    bits: int,
    *,
    palette: Array | None = None,
    core: bool = False,
    upside_down: bool = True,
    size: int | None = None,
    packed: int = 0,
) -> bytes:
    """BMP; `values` (H, W) of a palette or (H, W, 3 or 4) in the order blue, green, red."""
    height, width = values.shape[:2]
    rows = values[::-1] if upside_down else values
    lines = [_packed(row.ravel(), 8 if bits > 8 else bits) for row in rows]
    data = b"".join(line + bytes(-len(line) % 4) for line in lines)
    if core:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        signed = height if upside_down else -height
        colours = 0 if palette is None else len(palette)
        head = struct.pack(
            "<IiiHHIIiiII", 40, width, signed, 1, bits, packed, len(data), 0, 0, colours, 0
        )
    table = b"" if palette is None else np.asarray(palette, np.uint8).tobytes()
    if palette is not None and not core:
        table = b"".join(bytes(entry) + b"\0" for entry in np.asarray(palette, np.uint8))
    start = 14 + len(head) + len(table)
    whole = start + len(data) if size is None else size
    return b"BM" + struct.pack("<IHHI", whole, 0, 0, start) + head + table + data


def pnm(
    kind: int, values: Array, largest: int, *, comment: bytes = b"", end: bytes = b"\n"
) -> bytes:
    """PBM, PGM or PPM of kind P1 to P6; `values` (H, W) or (H, W, 3), 1 black in PBM."""
    height, width = values.shape[:2]
    head = b"P%d\n%b%d %d\n" % (kind, comment, width, height)
    head += b"" if kind in (1, 4) else b"%d\n" % largest
    if kind <= 3:
        return head + b" ".join(b"%d" % value for value in values.ravel()) + end
    if kind == 4:
        return head + np.packbits(values.astype(np.uint8), axis=1).tobytes()
    return head + values.astype(">u2" if largest > 255 else np.uint8).tobytes()


def pillow(image: Array | Image.Image, kind: str, **options: Any) -> bytes:
    """A file as Pillow writes it."""
    buffer = io.BytesIO()
    found = image if isinstance(image, Image.Image) else Image.fromarray(image)
    found.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values: Array, **options: Any) -> bytes:
    """A file as tifffile writes it."""
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()
