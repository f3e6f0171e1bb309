"""`Head`: what the rest of the project knows of a method."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from generalad.config import Config
from generalad.geometry.outside import LEAST_SHOWN
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
        taught: (N,) float32, 1 for patches that enough good images showed, where parts are turned
            into place; the others count in no image.
    """

    taught: Tensor

    title = ""
    """What the method is called in a spec."""

    gives_lengths = False
    """Whether scores are distances, 0 or more, and neither logits nor sums of what was scaled."""

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
        if self.places is not None and self.places.marked:
            self.register_buffer("taught", torch.ones(self.patches))

    def statistics_of(self, config: Config) -> int:
        """Places that each have a mean and covariance of their own: N, or 1 for tiles.

        A tile may lie anywhere in a frame, so that its places have no usual look.
        """
        return 1 if config.tiles else self.patches

    @property
    def counted(self) -> Tensor | None:
        """(N,) bool, the patches that count in any image; None where all do."""
        if self.places is None:
            return None
        patches = self.places.patches
        return patches & (self.taught > 0) if self.places.marked else patches

    def learn_places(self, shown: NDArray[np.bool_] | None) -> None:
        """Set `taught` by which patches good images showed, (n, N); None where all show all."""
        if shown is not None:
            enough = shown.mean(axis=0) >= LEAST_SHOWN
            self.taught.copy_(torch.from_numpy(enough.astype(np.float32)))

    def those_taught(self, shown: Tensor | None) -> Tensor | None:
        """Of patches that images show, (B, N) float32 0 or 1, those that count in any."""
        return None if shown is None else shown * self.taught

    def which(self, shown: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """Which patches of good images (n, N) teach; None where the same do in all."""
        if shown is None or self.counted is None:
            return None
        return np.asarray(shown & self.counted.cpu().numpy(), np.bool_)

    def chosen(
        self, features: NDArray[np.floating[Any]], shown: NDArray[np.bool_] | None = None
    ) -> list[NDArray[np.floating[Any]]]:
        """Of features (n, N, D) the patches that teach, (m, D) of each image."""
        which = self.which(shown)
        if which is not None:
            return [image[those] for image, those in zip(features, which, strict=True)]
        if self.places is None:
            return list(features)
        return list(features[:, self.places.numbers.cpu().numpy()])

    def of_those(self, judged: Tensor, shown: NDArray[np.bool_] | None = None) -> Tensor:
        """Of (n, J, N) the patches that count, (n, J, M), or all of them in one row, (1, J, M)."""
        which = self.which(shown)
        if which is not None:
            those = torch.from_numpy(which).to(judged.device)
            return judged.transpose(0, 1)[:, those].unsqueeze(0)
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
