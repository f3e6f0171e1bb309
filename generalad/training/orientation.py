"""Whether parts lie in any orientation, told from the good images: `any_orientation`.

Screws on a belt, cuts of a board and some fabrics look the same when their image is turned by a
quarter. Then each good image is eight good ones, which is most of what few images lack. Where parts
lie in place, a turned image is nothing that the line will ever show, and to know it for good would
hide parts that were put in wrongly.

So the usual look of each place is learned from half of the good images, and the rest is compared
with its own quarter turns: where these are no further from usual, the orientation is any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from generalad.model.heads import Head
from generalad.model.whitening import Whitening
from generalad.training.material import Material
from generalad.training.methods import patch_features_of

MOST_FITTED, MOST_COMPARED = 200, 40
"""Images that usual looks are learned from, and that are compared with their turns."""

LEAST_GROUPS, MANY = 6, 320
"""Fewer groups tell nothing. More images show each orientation often enough themselves, and more
kinds of good patches in the memory hide more defects."""

TOLD_APART = 0.7
"""AUROC of turned images against those that are not: of all pairs, in how many the turned one is
further from usual. In the sets tried it was at most 0.58 for parts that lie turned freely and at
least 0.97 for others."""


@dataclass(frozen=True)
class QuarterTurns:
    """Each of n images a quarter to the left, then each to the right; a `Drawing`.

    Those that are not square turn about their centre, and what that uncovers mirrors the rest.
    """

    images: int

    @property
    def count(self) -> int:
        """See `Drawing`."""
        return 2 * self.images

    def identity(self) -> dict[str, Any]:
        """See `Drawing`."""
        return {"quarter turns": 1, "count": self.count}

    def __call__(
        self, index: int, read: Callable[[int], NDArray[np.uint8]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """See `Drawing`; nothing is a defect."""
        image, turns = read(index % self.images), 1 if index < self.images else 3
        height, width = image.shape[:2]
        if height == width:
            turned = np.ascontiguousarray(np.rot90(image, turns))
        else:
            centre = ((width - 1) / 2, (height - 1) / 2)
            matrix = cv2.getRotationMatrix2D(centre, 90.0 * turns, 1.0)
            turned = np.asarray(
                cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT),
                np.uint8,
            )
        return turned, np.zeros((height, width), np.float32)


def any_orientation(head: Head, material: Material, groups: Sequence[int]) -> bool:
    """Whether quarter turns of the training images look as good as the images themselves.

    Not asked of more than `MANY`.

    Args:
        head: of the run, whose patch features are compared; it is not changed.
        material: of whole images, all of whose places count.
        groups: (n,) a number for the group of each training image.
    """
    numbers = np.unique(groups)
    if len(numbers) < LEAST_GROUPS or len(groups) > MANY:
        return False
    rng = np.random.default_rng([material.config.seed, 12])
    first = rng.permutation(numbers)[: len(numbers) // 2]
    fitted = rng.permutation(np.flatnonzero(np.isin(groups, first)))[:MOST_FITTED]
    compared = np.sort(rng.permutation(np.flatnonzero(~np.isin(groups, first)))[:MOST_COMPARED])
    samples = [material.train[number] for number in compared]
    turned = material.of(samples, "quarter turns", QuarterTurns(len(samples)))
    good = material.good()
    usual = Whitening(head.patches, head.dim)
    usual.fit(patch_features_of(head, good.values[np.sort(fitted)]))

    def deviation(values: NDArray[np.float16]) -> NDArray[np.float32]:
        patches = usual.deviations(torch.from_numpy(patch_features_of(head, values)).float())
        squared = patches.square().mean(dim=2).clamp(min=1e-6)
        return np.asarray(squared.log().mean(dim=1).numpy())

    further = deviation(turned.values)[:, None] - deviation(good.values[compared])
    return bool((further > 0).mean() + (further == 0).mean() / 2 < TOLD_APART)
