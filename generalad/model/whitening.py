"""Features as deviations from what is usual at their place, in units of their spread there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
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
        grid: (rows, columns) of the N places, where each 2 x 2 of them share a covariance; None
            where each place has its own. Means are each place's own.
            With one patch and no grid, one mean and one covariance are those of all places.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, patches: int, dim: int, *, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.grid = grid
        count = patches if grid is None else -(-grid[0] // 2) * -(-grid[1] // 2)
        if count * dim * dim > MOST_VALUES:
            raise ConfigError(
                f"whitened: {count} places of {dim} features are too many for a matrix each",
                remedy="leave it off; it is meant for narrow features such as the embedded ones",
            )
        self.register_buffer("mean", torch.zeros(patches, dim))
        self.register_buffer("matrix", torch.eye(dim).repeat(count, 1, 1))

    def deviations(self, features: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D), of any length."""
        # A product for each place over all images, so that no matrix is read once for each image.
        centred = features - self.mean
        if len(self.matrix) == 1 and self.grid is None:
            return centred @ self.matrix[0]
        if self.grid is None:
            return (centred.transpose(0, 1) @ self.matrix).transpose(0, 1)
        return from_cells(to_cells(centred, self.grid) @ self.matrix, self.grid)

    def forward(self, features: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D), of limited length."""
        z = self.deviations(features)
        return z / (1 + z.square().mean(dim=-1, keepdim=True) / LIMIT**2).sqrt()

    def fit(
        self,
        features: NDArray[np.floating[Any]],
        *,
        counted: Tensor | None = None,
        shown: NDArray[np.bool_] | None = None,
    ) -> None:
        """Set mean and matrices from good training features (n, N, D).

        Each place's covariance is shrunk towards the mean of all. One image alone has none; then
        all directions count alike.

        Args:
            features: of good images.
            counted: (N,) bool, the places that count; None for all. The others have a mean of their
                own, and no part in the mean of all covariances.
            shown: (n, N), which places of each image teach; None for all.
        """
        if len(self.mean) == 1:
            features = features.reshape(-1, 1, features.shape[-1])
        count = len(features)
        self.mean.copy_(_mean(features, shown))
        covariance = self.matrix.new_zeros(self.matrix.shape)
        some = 64 if len(self.mean) > 1 else 1 << 14
        free = max(count - 1, 1) if shown is None else 1
        for first in range(0, count, some):  # they may be a memory map larger than the memory
            part = torch.from_numpy(features[first : first + some].astype(np.float32))
            centred = part.to(self.mean) - self.mean
            if shown is not None:
                centred *= torch.from_numpy(shown[first : first + some]).to(centred)[..., None]
            rows = centred.transpose(0, 1) if self.grid is None else to_cells(centred, self.grid)
            covariance.baddbmm_(rows.mT, rows, alpha=1 / free)
        each = torch.ones(1, len(self.mean), 1)
        if shown is not None:
            each *= torch.from_numpy((shown.sum(axis=0) - 1).clip(min=1))[None, :, None]
        if self.grid is not None:
            each = to_cells(each, self.grid).sum(dim=(1, 2))
        if self.grid is not None or shown is not None:
            covariance /= each.to(covariance).reshape(-1, 1, 1)
        pooled = (
            covariance.mean(dim=0)
            if counted is None
            else covariance[self._of_cells(counted)].mean(dim=0)
        )
        covariance.lerp_(pooled.expand_as(covariance), SHRINKAGE)
        ridge = RIDGE * pooled.diagonal().mean() + 1e-6 if count > 1 else 1.0
        covariance.diagonal(dim1=1, dim2=2).add_(ridge)
        values, vectors = torch.linalg.eigh(covariance.double())
        scaled = vectors / values.clamp(min=1e-6).sqrt()[:, None]
        # Symmetric, so the same on every machine; eigenvectors may come with either sign.
        self.matrix.copy_(scaled @ vectors.mT)

    def _of_cells(self, counted: Tensor) -> Tensor:
        """(count,) bool of the matrices: those with a place that counts."""
        counted = counted.to(self.matrix.device)
        if self.grid is None:
            return counted
        return to_cells(counted.float()[None, :, None], self.grid).sum(dim=(1, 2)) > 0


def _mean(features: NDArray[np.floating[Any]], shown: NDArray[np.bool_] | None) -> Tensor:
    """(N, D) of features (n, N, D), over the images that show each place, 0 where none does."""
    if shown is None:
        return torch.from_numpy(features.mean(axis=0, dtype=np.float32))
    total = np.zeros(features.shape[1:], np.float64)
    for image, places in zip(features, shown, strict=True):
        total[places] += image[places]
    mean = total / shown.sum(axis=0).clip(min=1)[:, None]
    return torch.from_numpy(mean.astype(np.float32))


def to_cells(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, N, D) on a grid as 2 x 2 places together, (cells, 4 B, D); zeros beyond the borders."""
    (rows, columns), (batch, _, dim) = grid, features.shape
    placed = features.reshape(batch, rows, columns, dim)
    placed = F.pad(placed, (0, 0, 0, columns % 2, 0, rows % 2))
    cells = placed.reshape(batch, -(-rows // 2), 2, -(-columns // 2), 2, dim)
    return cells.permute(1, 3, 0, 2, 4, 5).reshape(-1, 4 * batch, dim)


def from_cells(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """The way back from `to_cells`: (cells, 4 B, D) to (B, N, D)."""
    (rows, columns), dim = grid, cells.shape[-1]
    parts = cells.reshape(-(-rows // 2), -(-columns // 2), -1, 2, 2, dim)
    placed = parts.permute(2, 0, 3, 1, 4, 5).flatten(3, 4).flatten(1, 2)
    return placed[:, :rows, :columns].flatten(1, 2)
