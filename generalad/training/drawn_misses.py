"""What a lower false-alarm rate costs, shown on defects drawn into held-out good images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from generalad.calibration import highest_good
from generalad.geometry.geometry import Geometry
from generalad.geometry.outside import with_defect_inside
from generalad.spec import DrawnMisses
from generalad.synth.drawn_defects import with_defect

RATES = (0.001, 0.01, 0.05)

LEAST, MOST = 30, 96
"""Drawn defects: enough for a share, few enough for a large model on a small CPU."""


def drawn_misses(
    score: Callable[[list[NDArray[np.uint8]]], NDArray[np.float32]],
    images: Sequence[NDArray[np.uint8]],
    scores: NDArray[np.float32],
    groups: Sequence[int],
    views: NDArray[np.float32] | None = None,
    geometry: Geometry | None = None,
) -> tuple[DrawnMisses, ...]:
    """Count the drawn defects that the thresholds for `RATES` miss.

    Args:
        score: raw scores of images.
        images: calibration images (H, W, 3) uint8 RGB, at the network's input size.
        scores: (n,) raw scores of these.
        groups: (n,) as in `calibrate`.
        views: (n,) scores of views of them, where thresholds look at these.
        geometry: what of a frame is judged; defects are drawn where it counts.
    """
    count = min(max(len(images), LEAST), MOST)
    # All images in turn where there are few, and at random, so that each meets all kinds.
    places = np.resize(np.random.default_rng(0).permutation(len(images)), count)
    chosen = np.random.default_rng(1).permutation(places)
    drawn = score(
        [
            with_defect_inside(images[place], index, with_defect, geometry)[0]
            for index, place in enumerate(chosen)
        ]
    )
    misses = []
    for rate in RATES:
        highest, reached = highest_good(scores, target=rate, groups=groups, views=views)
        missed = int((drawn <= highest).sum())
        misses.append(DrawnMisses(rate, reached, missed, count))
    return tuple(misses)
