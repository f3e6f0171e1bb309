"""`Head`: what the rest of the project knows of a method."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from generalad.config import Config
from generalad.model.levels import patch_features
from generalad.model.places import Places


class Head(nn.Module):
    """Patch features to patch scores.

    What training makes are its parameters and buffers; everything in `forward` becomes part of the
    exported graph.

    Args:
        config: of the run.
        grid: (rows, columns) of patches; N = rows x columns.
        dim: D, width of a patch feature.
        widths: channels of the levels, where the features are packed ones
            (`generalad.model.levels`).

    Attributes:
        dim: width of what `patch_features` gives.
        places: which pixels and patches count; None where all do. The others teach nothing.
    """

    title = ""
    """What the method is called in a spec."""

    sees_images = False
    """Whether `forward` takes the images (B, 3, H, W) too, normalised for the backbone."""

    def __init__(
        self, config: Config, grid: tuple[int, int], dim: int, widths: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.grid, self.widths = grid, widths
        self.patches = grid[0] * grid[1]
        self.dim = widths[0] + widths[1] if widths else dim
        self.places = Places.of(config, grid)

    def statistics_of(self, config: Config) -> int:
        """Places that each have a mean and covariance of their own: N, or 1 for tiles.

        A tile may lie anywhere in a frame, so that its places have no usual look.
        """
        return 1 if config.tiles else self.patches

    @property
    def counted(self) -> Tensor | None:
        """(N,) bool, the patches that count; None where all do."""
        return None if self.places is None else self.places.patches

    def chosen(self, features: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Of features (n, N, D) the patches that count, (n, M, D)."""
        if self.places is None:
            return features
        return features[:, self.places.numbers.cpu().numpy()]

    def of_those(self, judged: Tensor) -> Tensor:
        """Of (..., N) the patches that count, (..., M)."""
        return judged if self.places is None else judged[..., self.places.numbers]

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, N, D) float32 to scores (B, N), raw, higher is more anomalous."""
        raise NotImplementedError

    def judge(self, features: Tensor) -> Tensor:
        """Features (B, N, D) to (B, J, N): what `forward` brings to one scale and adds.

        Most methods have one judge, their score.
        """
        return self.forward(features).unsqueeze(1)

    def add(self, judged: Tensor) -> Tensor:
        """Scores (B, N) from what `judge` gave."""
        return judged[:, 0]

    def fit_scales(self, judged: Tensor) -> None:
        """Set the scales of the judges from what `judge` gave for good images that taught nothing.

        Methods with one judge have no scales.
        """

    def patch_features(self, features: Tensor) -> Tensor:
        """Features as they are, or of packed levels the first two: (B, N, dim)."""
        return patch_features(features, self.widths, self.grid) if self.widths else features
