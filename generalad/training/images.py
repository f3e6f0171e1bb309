"""Training images at the network's input size, for methods that see pixels in every epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generalad.geometry.geometry import Geometry
from generalad.geometry.placement import prepare
from generalad.preprocess import read_image


class Images:
    """Reads images when they are first asked for and keeps as many as fit a budget.

    Args:
        paths: n image files.
        image_size: (height, width) that they are resized to.
        budget: bytes that may be kept in memory.
        geometry: what of a frame is judged.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image_size: tuple[int, int],
        budget: int,
        *,
        geometry: Geometry | None = None,
    ) -> None:
        self.paths, self.image_size, self.geometry = paths, image_size, geometry
        self.most = budget // (3 * math.prod(image_size))
        self.kept: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: NDArray[np.int64], device: torch.device) -> Tensor:
        """Images (B, H, W, 3) uint8 RGB on `device`; DataError where one cannot be read."""
        return torch.from_numpy(np.stack([self._one(int(index)) for index in indices])).to(device)

    def _one(self, index: int) -> NDArray[np.uint8]:
        if index in self.kept:
            return self.kept[index]
        image = prepare(read_image(self.paths[index]), self.image_size, self.geometry).pixels
        if len(self.kept) < self.most:
            self.kept[index] = image
        return image
