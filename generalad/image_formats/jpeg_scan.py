"""Whether the pixels of a JPEG are all there, though its end is.

Cameras and transfers that lose a piece of an image still send its end. libjpeg goes on with what
follows, and what is missing then, at the end of the image, becomes grey: 128 in all channels.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GREY = 128

_CELL = 16  # pixels; no unit of the usual samplings is larger
_LEAST_CELLS = 8
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")


def restarts_miss(data: bytes, start: int, expected: int) -> bool:
    """Whether some of the markers between the pieces of a scan are not there.

    Args:
        data: the file.
        start: of the scan, the only one.
        expected: how many there are; some encoders write one more.
    """
    end = data.find(b"\xff\xd9", start)
    found = [one[1][0] - 0xD0 for one in _RESTART.finditer(data, start, end)]
    return len(found) < expected or found != [number % 8 for number in range(len(found))]


def ends_early(data: bytes, decode: Callable[[bytes], NDArray[Any] | None]) -> bool:
    """Whether a JPEG whose last pixels are grey is so because they are missing.

    Grey that somebody saved takes bytes too: without the last of them all before it is the same.
    Where pixels are missing, the last bytes are of those before.

    Args:
        data: the file.
        decode: brightness (H, W) as it is stored, not turned.
    """
    image = decode(data)
    scan = data.rfind(b"\xff\xda", 0, data.rfind(b"\xff\xd9"))
    end = data.find(b"\xff\xd9", scan)
    if image is None or scan < 0 or end < 0:
        return False
    grey = _cells(image == _GREY)
    count = grey.size if grey.all() else int(np.argmin(grey[::-1]))
    if count < _LEAST_CELLS:
        return False
    # A cell takes at least a byte: four blocks of two bits. The half, to be sure.
    shorter = decode(data[: end - count // 2] + data[end:])
    return shorter is None or not _cells(image == shorter)[: grey.size - count].all()


def _cells(places: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of squares of `_CELL` pixels, row by row: whether all of their pixels are true."""
    missing = [(0, -side % _CELL) for side in places.shape]
    whole = np.pad(places, missing, constant_values=True)
    rows, columns = (side // _CELL for side in whole.shape)
    return np.asarray(whole.reshape(rows, _CELL, columns, _CELL).all(axis=(1, 3))).ravel()
