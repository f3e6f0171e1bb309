"""What new thresholds cost, and images that had better not set them.

A threshold that is set from good images alone looks right on them whatever it is. `missed_drawn`
and `missed` show what it does to defects; `apart` finds images to look at before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.geometry.outside import with_defect_inside
from generalad.spec import Spec
from generalad.synth.drawn_defects import with_defect

LEAST, MOST = 30, 96
"""Drawn defects: enough for a share, few enough for a large model on a small CPU."""

MOST_BYTES = 1 << 29
"""Of images that are kept for it."""

_APART = 2.0
"""Distances between the quartiles above the upper one: few good images in a thousand are there."""

KNOWN_DIGITS = 12
"""Of the hash of each training image that a spec keeps."""


class Misses(NamedTuple):
    """Defects, and how many of them the old and the new threshold call good."""

    defects: int
    old: int
    new: int


def missed(scores: Sequence[float], old: Spec, new: Spec) -> Misses:
    """Of defects with these raw scores."""
    before, after = (sum(not spec.is_anomalous(score) for score in scores) for spec in (old, new))
    return Misses(len(scores), before, after)


def missed_drawn(
    score: Callable[[NDArray[np.uint8]], float],
    images: Sequence[NDArray[np.uint8]],
    old: Spec,
    new: Spec,
) -> Misses:
    """Of defects drawn on good images (H, W, 3) uint8 RGB of the network's input size."""
    count = min(max(len(images), LEAST), MOST)
    places = np.resize(np.random.default_rng(0).permutation(len(images)), count).tolist()
    drawn = [
        with_defect_inside(images[place], index, with_defect, old.geometry)[0]
        for index, place in enumerate(places)
    ]
    return missed([score(image) for image in drawn], old, new)


def apart(scores: Sequence[float]) -> list[int]:
    """Numbers of the scores that stand above the others, as those of defects among good parts."""
    lower, upper = np.quantile(scores, (0.25, 0.75))
    level = upper + _APART * (upper - lower)
    return [number for number, score in enumerate(scores) if score > level]


class Sample:
    """A fair choice of at most `MOST` images out of many that pass by."""

    def __init__(self) -> None:
        self.images: list[NDArray[np.uint8]] = []
        self._seen = 0
        self._rng = np.random.default_rng(0)

    def add(self, image: NDArray[np.uint8]) -> None:
        """See one more image."""
        self._seen += 1
        most = max(1, min(MOST, MOST_BYTES // image.nbytes))
        if len(self.images) < most:
            self.images.append(image)
            return
        place = int(self._rng.integers(0, self._seen))
        if place < most:
            self.images[place] = image
