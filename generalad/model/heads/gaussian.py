"""A Gaussian for each place (Defard et al. 2021, "PaDiM"): only mean and covariance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generalad.config import Config
from generalad.model.heads.head import Head
from generalad.model.whitening import MOST_VALUES, Whitening


class GaussianHead(Head):
    """The Mahalanobis distance of a patch from the good ones at its place, over the root of D.

    A covariance for each place must fit into memory, so wide features are first projected onto
    their principal components.
    """

    title = "Gaussian"
    gives_lengths = True
    projection: Tensor

    def __init__(
        self, config: Config, grid: tuple[int, int], dim: int, widths: tuple[int, ...] = ()
    ) -> None:
        super().__init__(config, grid, dim, widths)
        dim = self.dim
        places = self.statistics_of(config)
        width = min(dim, math.isqrt(MOST_VALUES // places))
        self.is_projected = width < dim
        self.register_buffer("projection", torch.eye(dim)[:, :width].contiguous())
        self.whitening = Whitening(places, width)

    def forward(self, features: Tensor) -> Tensor:
        """See `Head`."""
        features = self.patch_features(features)
        if self.is_projected:
            features = features @ self.projection
        deviations = self.whitening.deviations(features)
        return deviations.square().mean(dim=-1).sqrt()

    @torch.no_grad()
    def fit(self, features: NDArray[np.float16], shown: NDArray[np.bool_] | None = None) -> None:
        """Set everything from `patch_features` of good training images, (n, N, dim).

        Args:
            features: of these.
            shown: (n, N), which patches are in the frame; None for all.
        """
        if self.is_projected:
            chosen = self.chosen(features, shown)
            self.projection.copy_(_principal(chosen, self.projection.shape[1]))
            projection = self.projection.cpu().numpy()
            features = np.stack([image.astype(np.float32) @ projection for image in features])
        self.whitening.fit(features, counted=self.counted, shown=self.which(shown))


def _principal(features: Sequence[NDArray[np.floating[Any]]], width: int) -> Tensor:
    """(D, width): the directions of the largest variance over all places, (m, D) of each image."""
    dim = features[0].shape[-1]
    scatter = torch.zeros(dim, dim, dtype=torch.float64)
    total = np.sum([image.sum(axis=0, dtype=np.float64) for image in features], axis=0)
    mean = torch.from_numpy(total / sum(map(len, features)))
    for image in features:
        centred = torch.from_numpy(image.astype(np.float64)) - mean
        scatter += centred.T @ centred
    return torch.as_tensor(torch.linalg.eigh(scatter).eigenvectors[:, -width:].float())
