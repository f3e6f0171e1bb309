"""Where the tiles of a frame lie, and which of them each patch of the frame is taken from.

Tiles lie on the grid of patches, so that a patch is the same whichever tile it is seen in, but for
what the network sees around it. Each is taken from the tile in which it lies farthest from a
border: half the overlap or more, except at the border of the frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from generalad.geometry.geometry import Tiles

Places = NDArray[np.int64]


def starts(length: int, tiles: Tiles) -> list[int]:
    """Where tiles begin along a side of the network's input, in pixels, rising."""
    steps = range(0, length - tiles.side, tiles.side - tiles.overlap)
    return [*steps, length - tiles.side]


def tile_starts(tiles: Tiles, size: tuple[int, int]) -> list[tuple[int, int]]:
    """(top, left) of each tile, row by row.

    Args:
        tiles: their side and overlap.
        size: (height, width) of the network's input.
    """
    rows, columns = (starts(length, tiles) for length in size)
    return [(top, left) for top in rows for left in columns]


def stitching(tiles: Tiles, size: tuple[int, int], grid: tuple[int, int]) -> Places:
    """For each patch of the frame, its number among the patches of all tiles: (rows, columns).

    Args:
        tiles: their side and overlap.
        size: (height, width) of the network's input.
        grid: (rows, columns) of the patches of one tile.
    """
    (row_tiles, rows), (column_tiles, columns) = (
        _owners(length, tiles, patches) for length, patches in zip(size, grid, strict=True)
    )
    across = len(starts(size[1], tiles))
    tile = row_tiles[:, None] * across + column_tiles[None, :]
    return np.asarray((tile * grid[0] + rows[:, None]) * grid[1] + columns[None, :], np.int64)


def _owners(length: int, tiles: Tiles, patches: int) -> tuple[Places, Places]:
    """Along one side, the tile of each patch of the frame, and the number of the patch there."""
    stride = tiles.side // patches
    first = np.array(starts(length, tiles)) // stride
    middles = first + patches / 2
    patch = np.arange(length // stride)
    tile = np.abs(patch[:, None] + 0.5 - middles[None, :]).argmin(axis=1)
    return tile, patch - first[tile]
