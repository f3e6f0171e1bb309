"""Features as deviations from what is usual at their place, in units of their spread there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from generalad.errors import ConfigError

SHRINKAGE = 0.3
"""Weight of the covariance of all places in that of one: a few images tell too little of each."""

RIDGE = 1e-4
"""Of the mean variance, added to every direction, so that one without any variance stays finite."""

LIMIT = 3.0
"""Root mean square that no feature exceeds. Defects lie far beyond all noise seen in training; left
alone, attention carries them to every other place of the image."""

MOST_VALUES = 1 << 25
"""Of all matrices together: 128 MiB. Wide features at many places would need gigabytes."""


class Whitening(nn.Module):
    """z = (x - mean) W for each place, such that good training features have unit covariance.

    The squared length of z is the Mahalanobis distance of a Gaussian for each place (Defard et al.
    2021, "PaDiM"). What comes out has the direction of z and, for long ones, a limited length:
    z / sqrt(1 + mean(z^2) / LIMIT^2).

    Args:
        patches: N.
        dim: D.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, patches: int, dim: int) -> None:
        super().__init__()
        if patches * dim * dim > MOST_VALUES:
            raise ConfigError(
                f"whitened: {patches} places of {dim} features are too many for a matrix each",
                remedy="leave it off; it is meant for narrow features such as the embedded ones",
            )
        self.register_buffer("mean", torch.zeros(patches, dim))
        self.register_buffer("matrix", torch.eye(dim).repeat(patches, 1, 1))

    def deviations(self, features: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D), of any length."""
        # A product for each place over all images, so that no matrix is read once for each image.
        return ((features - self.mean).transpose(0, 1) @ self.matrix).transpose(0, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D), of limited length."""
        z = self.deviations(features)
        return z / (1 + z.square().mean(dim=-1, keepdim=True) / LIMIT**2).sqrt()

    def fit(self, features: NDArray[np.floating[Any]]) -> None:
        """Set mean and matrices from good training features (n, N, D).

        Each place's covariance is shrunk towards the mean of all. One image alone has none; then
        all directions count alike.
        """
        count = len(features)
        self.mean.copy_(torch.from_numpy(features.mean(axis=0, dtype=np.float32)))
        covariance = self.matrix.new_zeros(self.matrix.shape)
        for first in range(0, count, 64):  # they may be a memory map larger than the memory
            part = torch.from_numpy(features[first : first + 64].astype(np.float32))
            centred = (part.to(self.mean) - self.mean).transpose(0, 1)
            covariance.baddbmm_(centred.mT, centred, alpha=1 / max(count - 1, 1))
        pooled = covariance.mean(dim=0)
        covariance.lerp_(pooled.expand_as(covariance), SHRINKAGE)
        ridge = RIDGE * pooled.diagonal().mean() + 1e-6 if count > 1 else 1.0
        covariance.diagonal(dim1=1, dim2=2).add_(ridge)
        values, vectors = torch.linalg.eigh(covariance.double())
        scaled = vectors / values.clamp(min=1e-6).sqrt()[:, None]
        # Symmetric, so the same on every machine; eigenvectors may come with either sign.
        self.matrix.copy_(scaled @ vectors.mT)
