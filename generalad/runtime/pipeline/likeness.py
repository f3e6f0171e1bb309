"""`Likeness`: whether the images of files look like those that a detector was calibrated on.

What is a fault of a camera on a stream is said once of files: another format of any image, and
darkness, blur or other colours where most of the first images show them.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from generalad.image_limits import Limits
from generalad.image_statistics import statistics
from generalad.spec import Reference

_FORMAT = "format"
_LOOKED_AT, _LEAST = 20, 3
"""Images whose looks are taken, and that must show the same before it is said."""


class Likeness:
    """Of the images of one source, in one thread."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._limits = Limits(reference)
        self._images = self._looked = 0
        self._kinds: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        """Of the first image of each kind."""

    def see(self, pixels: NDArray[np.uint8], image_size: tuple[int, int]) -> None:
        """Take the next image: the network's input, and its (height, width) before the resize."""
        self._images += 1
        if other := self._reference.other_format(image_size):
            self._kinds[_FORMAT] += 1
            self._reasons.setdefault(_FORMAT, other)
        elif self._looked < _LOOKED_AT:
            self._looked += 1
            if fault := self._limits.fault(statistics(pixels), image_size):
                self._kinds[fault.kind] += 1
                self._reasons.setdefault(fault.kind, fault.reason)

    def in_words(self, name: str) -> str:
        """A warning about the source `name`; empty where its images look as they should."""
        if count := self._kinds[_FORMAT]:
            return (
                f"{name}: {count} of {self._images} images are of another format than those of the"
                f" calibration, so that scores say little: {self._reasons[_FORMAT]} → crop them as"
                " the training images were, or train on such images"
            )
        kind, count = max(self._kinds.items(), key=lambda entry: entry[1], default=("", 0))
        if count < _LEAST or 2 * count <= self._looked:
            return ""
        return (
            f"{name}: {count} of the first {self._looked} images do not look like those of the"
            f" calibration, so that scores say little: {kind}, {self._reasons[kind]} → look at"
            " camera and light, or train on such images"
        )
