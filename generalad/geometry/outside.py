"""Places of the network's input that lie outside of the frame: a part was turned into place there.

`prepare` gives their pixels one colour that no other pixel has, so that a graph, which is given
pixels and nothing else, knows them too. They are blanked before anything looks at them, and patches
that they touch neither teach nor count, in this image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.geometry.geometry import Geometry

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

OUTSIDE = (255, 0, 255)
"""RGB. What of the frame itself has it becomes (255, 1, 255)."""

DRAWN_OUT = 0.015
"""Share of each side by which the border of the frame is drawn out before it is outside: views of
good images are shifted by as much, and a part that lies almost in place loses no patches."""

LEAST_SHOWN = 0.25
"""Share of good images that must show a place for it to be judged; others say too little of it."""


class Draw(Protocol):
    """As `generalad.synth.drawn_defects.with_defect`."""

    def __call__(self, image: Image, index: int, *, counted: Mask | None) -> tuple[Image, Mask]:
        """The image with a defect, and its mask (H, W)."""


def marked(pixels: Image, outside: Mask) -> Image:
    """An image (H, W, 3) uint8 RGB with the colour where it is outside, (H, W) bool."""
    found = pixels.copy()
    found[outside_of(pixels), 1] = 1
    found[outside] = OUTSIDE
    return found


def outside_of(pixels: Image) -> Mask:
    """(H, W) bool: which pixels of a network's input (H, W, 3) uint8 RGB are outside."""
    return np.asarray(cv2.inRange(pixels, OUTSIDE, OUTSIDE), np.uint8) > 0


def filled(pixels: Image) -> Image:
    """The same without the colour: the mean of the rest stands there."""
    if cv2.minMaxLoc(cv2.extractChannel(pixels, 1))[0] > OUTSIDE[1]:  # a third of the time
        return pixels
    outside = outside_of(pixels)
    if not outside.any():
        return pixels
    found = pixels.copy()
    found[outside] = pixels[~outside].mean(axis=0).round() if not outside.all() else 0
    return found


def changed_inside(
    images: Sequence[Image],
    change: Callable[[list[Image]], list[Image]],
    geometry: Geometry | None,
) -> list[Image]:
    """What `change` makes of network's inputs, with the same places outside as before."""
    if geometry is None or not geometry.marks_outside:
        return change(list(images))
    changed = change([filled(image) for image in images])
    return [marked(new, outside_of(old)) for new, old in zip(changed, images, strict=True)]


def with_defect_inside(
    pixels: Image, index: int, draw: Draw, geometry: Geometry | None
) -> tuple[Image, Mask]:
    """What `draw` makes of a network's input, where it counts, and the defect's mask (H, W)."""
    from generalad.geometry.counted import counted  # not for a run, which draws nothing

    places = counted(geometry, (pixels.shape[0], pixels.shape[1]))
    if geometry is None or not geometry.marks_outside:
        return draw(pixels, index, counted=places)
    outside = outside_of(pixels)
    inside = ~outside if places is None else places & ~outside
    image, mask = draw(filled(pixels), index, counted=inside)
    return marked(image, outside), mask
