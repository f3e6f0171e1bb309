"""A memory of good patches (Roth et al. 2022, "PatchCore"): the distance to the nearest of them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generalad.config import Config
from generalad.model.heads.head import Head
from generalad.model.memory import Memory


class PatchCoreHead(Head):
    """The Euclidean distance of a patch to the nearest in a coreset of good ones, at any place."""

    title = "PatchCore"
    gives_lengths = True

    def __init__(
        self, config: Config, grid: tuple[int, int], dim: int, widths: tuple[int, ...] = ()
    ) -> None:
        super().__init__(config, grid, dim, widths)
        dim = self.dim
        self.memory = Memory(config.memory_size, dim)
        self.seed = config.seed

    def forward(self, features: Tensor) -> Tensor:
        """See `Head`."""
        return self.memory.squared_distances(self.patch_features(features)).sqrt()

    @torch.no_grad()
    def fit(self, features: NDArray[np.float16], shown: NDArray[np.bool_] | None = None) -> None:
        """Fill the memory from `patch_features` of good training images, see `GaussianHead`."""
        patches = np.concatenate(self.chosen(features, shown)).astype(np.float32)
        self.memory.fill(torch.from_numpy(patches), seed=self.seed)
