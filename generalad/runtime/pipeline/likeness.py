"""`Likeness`: whether the images of files look like those that a detector was calibrated on.

What is a fault of a camera on a stream is said of each image of files, which is scored all the
same, because somebody chose it. Of a whole source it is said once: another format of any image, and
darkness, blur or other colours where most images in a row show them.
"""

from __future__ import annotations

from collections import Counter, deque

import numpy as np
from numpy.typing import NDArray

from generalad.image_limits import Limits
from generalad.spec import Reference

_FORMAT = "size"
"""The kind of fault that another format is."""

_ROW, _LEAST = 20, 3
"""Of so many images in a row most, and at least so many, must show the same before it is said."""


class Likeness:
    """Of the images of one source, in one thread."""

    def __init__(self, reference: Reference) -> None:
        self._limits = Limits(reference)
        self._images = 0
        self._row: deque[str] = deque(maxlen=_ROW)
        """What the last images show; empty of one that looks as it should."""
        self._said = ""
        self._kinds: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        """Of the first image of each kind."""

    def see(self, pixels: NDArray[np.uint8], image_size: tuple[int, int]) -> str | None:
        """Take the next image: the network's input, and its (height, width) before the resize.

        Returns:
            How it lies beyond the images of the calibration, or None.
        """
        self._images += 1
        fault = self._limits.of_image(pixels, image_size)
        kind = "" if fault is None else fault.kind
        self._row.append(kind)
        if fault is not None:
            self._kinds[kind] += 1
            self._reasons.setdefault(kind, fault.reason)
        if len(self._row) == _ROW:
            self._said = self._said or self._most_of_row()
        return None if fault is None else str(fault)

    def _most_of_row(self) -> str:
        """What most of the last images show, or empty."""
        kind, count = Counter(self._row).most_common(1)[0]
        return kind if count >= _LEAST and 2 * count > len(self._row) else ""

    def in_words(self, name: str) -> str:
        """A warning about the source `name`; empty where its images look as they should."""
        if count := self._kinds[_FORMAT]:
            return (
                f"{name}: {count} of {self._images} images are of another format than those of the"
                f" calibration, so that scores say little: {self._reasons[_FORMAT]} → crop them as"
                " the training images were, or train on such images"
            )
        kind = self._said or (self._most_of_row() if self._row else "")
        if not kind:
            return ""
        return (
            f"{name}: {self._kinds[kind]} of {self._images} images do not look like those of the"
            f" calibration, so that scores say little: {kind}, {self._reasons[kind]} → look at"
            " camera and light, or train on such images"
        )
