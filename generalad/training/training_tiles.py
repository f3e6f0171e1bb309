"""Tiles of good frames, which heads learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.data.dataset import Sample
from generalad.geometry.geometry import Geometry
from generalad.geometry.placement import prepare
from generalad.geometry.tiling import tile_starts
from generalad.preprocess import read_image
from generalad.progress import Progress

MOST_TILES, MOST_PATCHES = 400, 400_000
"""Of all frames together, that are learned from: their features have to fit into memory."""


@dataclass(frozen=True)
class TrainingTiles:
    """Tiles of good frames.

    Attributes:
        images: (n, H, W, 3) uint8 RGB, at the network's size.
        sources: (n,) which of the frames each is from.
        names: (n,) of its place in the frame, for the cache.
    """

    images: NDArray[np.uint8]
    sources: NDArray[np.intp]
    names: tuple[str, ...]


def training_tiles(
    samples: Sequence[Sample], geometry: Geometry, *, patches: int, seed: int, progress: Progress
) -> TrainingTiles:
    """As many tiles of each frame as of any other, at random places of those that are judged.

    Args:
        samples: good frames.
        geometry: with tiles.
        patches: of one tile.
        seed: of the choice.
        progress: called with ("tiles", frames read, frames).
    """
    assert geometry.tiles is not None
    size, side = geometry.tiled_size(), geometry.tiles.side
    shown = (side * geometry.tiles.scale,) * 2
    places = tile_starts(geometry.tiles, size)
    most = min(MOST_TILES, MOST_PATCHES // patches)
    each = max(1, min(len(places), most // len(samples)))
    rng = np.random.default_rng([seed, 10])
    used = list(range(len(samples)))
    if len(used) > most:
        used = sorted(rng.permutation(len(used))[:most].tolist())
    images, sources, names = [], [], []
    for done, number in enumerate(used, start=1):
        frame = prepare(read_image(samples[number].path), size, geometry).pixels
        for place in np.sort(rng.permutation(len(places))[:each]):
            top, left = places[place]
            tile = frame[top : top + side, left : left + side]
            images.append(cv2.resize(tile, shown, interpolation=cv2.INTER_LINEAR))
            sources.append(number)
            names.append(f"{top},{left}")
        progress("tiles", done, len(used))
    return TrainingTiles(np.stack(images), np.array(sources, np.intp), tuple(names))
