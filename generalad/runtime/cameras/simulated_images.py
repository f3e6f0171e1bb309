"""Images of `test://` sources: parts, and what a camera with a fault makes of them."""

from __future__ import annotations

import functools
import threading

import cv2
import numpy as np
from numpy.typing import NDArray

_GOOD, _OF_A_DEFECT = 12, 2
"""Drawing a part takes long, so this many of each kind take turns."""


class Parts:
    """The parts of one category, size and seed, each drawn when it is first asked for."""

    def __init__(self, category: str, size: int, seed: int) -> None:
        self._category = category
        self._size = size
        self._seed = seed
        self._drawing = threading.Lock()
        self._drawn: dict[tuple[str | None, int], NDArray[np.uint8]] = {}

    def part(self, index: int, defect: str | None) -> NDArray[np.uint8]:
        """Image number `index`, good or with a defect: (size, size, 3) uint8 RGB, read only."""
        key = (defect, index % (_GOOD if defect is None else _OF_A_DEFECT))
        if (part := self._drawn.get(key)) is not None:
            return part
        with self._drawing:
            if key not in self._drawn:
                self._drawn[key] = self._draw(*key)
            return self._drawn[key]

    def _draw(self, defect: str | None, variant: int) -> NDArray[np.uint8]:
        from generalad.synth import render_part  # not with the package: only tests need it

        rng = np.random.default_rng([self._seed, variant, 1])
        part, _ = render_part(self._category, rng, defect=defect, size=self._size)
        part.setflags(write=False)
        return part


@functools.lru_cache(maxsize=16)
def shared_parts(category: str, size: int, seed: int) -> Parts:
    """The same parts for all sources of a process that ask for the same."""
    return Parts(category, size, seed)


def black(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """No light."""
    return np.zeros_like(image)


def covered(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Something stands right before the lens: less light, and no shapes."""
    return (_blurred(image, image.shape[0] / 4) * 0.7).astype(np.uint8)


def defocus(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blurred by a 64th of the side."""
    return _blurred(image, image.shape[0] / 64)


def overexposed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Three times the light."""
    return np.minimum(image.astype(np.uint16) * 3, 255).astype(np.uint8)


def halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Half of the resolution."""
    return np.ascontiguousarray(image[::2, ::2])


def _blurred(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """In a smaller image, which shows no difference and takes next to no time."""
    height, width = image.shape[:2]
    step = max(1, int(sigma / 4))
    small = cv2.resize(image, (width // step, height // step), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step)
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)
