"""From patch logits to the anomaly map: bilinear upsampling and Gaussian smoothing, exactly.

The authors upsample the logits to the size of the image, smooth there with reflected edges, and
measure there. Upsampling, smoothing and sampling are linear and act on each axis alone, so all
three together are one matrix an axis, from patches to the pixels of a small map:

    map = A_rows · logits · A_columnsᵀ.

The matrices are made once, in float64, from the operations at full size. The map is therefore what
a bilinear resize of the authors' full-size map gives, and costs two small products.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MAP_PIXELS_PER_PATCH = 4

LEAST_SHARE = 0.05
"""Of the weights of a map's pixel that patches must have which count."""


class AnomalyMap(nn.Module):
    """Patch logits (B, N) to maps (B, h, w).

    Args:
        grid: (rows, columns) of patches; N = rows x columns.
        image_size: (H, W) of the network's input in pixels.
        sigma: standard deviation of the Gaussian in pixels of the network's input; 0 for none.
        radius: where it is cut, in pixels of the network's input.
        counted: (N,) bool, the patches that count in all images; None for all. A map then is the
            mean of those that count, weighed alike, and where there is none its least value.

    Attributes:
        map_size: (h, w): four pixels a patch on each axis.
    """

    rows: Tensor
    columns: Tensor
    counted: Tensor
    share: Tensor

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        image_size: tuple[int, int],
        sigma: float,
        radius: int,
        counted: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.map_size = (grid[0] * MAP_PIXELS_PER_PATCH, grid[1] * MAP_PIXELS_PER_PATCH)
        rows, columns = (
            torch.from_numpy(axis_matrix(patches, pixels, outputs, sigma, radius)).float()
            for patches, pixels, outputs in zip(grid, image_size, self.map_size, strict=True)
        )
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns.t().contiguous(), persistent=False)
        self.ignores = counted is not None
        if counted is not None:
            share = self._spread(counted[None].float())
            # What has next to no weight would be made of the rounding of others.
            share = torch.where(share < LEAST_SHARE, torch.zeros(()), 1 / share.clamp(LEAST_SHARE))
            self.register_buffer("counted", counted.float()[None], persistent=False)
            self.register_buffer("share", share, persistent=False)

    def forward(self, logits: Tensor, shown: Tensor | None = None) -> Tensor:
        """See the class; `shown` (B, N), 0 or 1, says which patches count in each image."""
        if not self.ignores and shown is None:
            return self._spread(logits)
        least = logits.amin(dim=1, keepdim=True)
        if shown is not None:
            spread, share = self._spread((logits - least) * shown), self._spread(shown)
            spread = torch.where(share < LEAST_SHARE, 0.0, spread / share.clamp(LEAST_SHARE))
            return spread + least.unsqueeze(2)
        spread = self._spread((logits - least) * self.counted)
        return spread * self.share + least.unsqueeze(2)

    def _spread(self, logits: Tensor) -> Tensor:
        return self.rows @ logits.reshape(-1, *self.grid) @ self.columns


def axis_matrix(
    patches: int, pixels: int, outputs: int, sigma: float, radius: int
) -> NDArray[np.float64]:
    """(outputs, patches): patches to `pixels` bilinearly, smoothed there, sampled at `outputs`."""
    full = bilinear(patches, pixels)
    if sigma > 0 and radius > 0:
        offsets = np.arange(-radius, radius + 1)
        weights = np.exp(-(offsets**2) / (2 * sigma**2))
        # "symmetric" repeats the pixel at the edge, as SciPy's filters do by default.
        padded = np.pad(full, ((radius, radius), (0, 0)), mode="symmetric")
        full = np.zeros_like(full)
        for start, weight in enumerate(weights / weights.sum()):
            full += weight * padded[start : start + pixels]
    return np.asarray(bilinear(pixels, outputs) @ full, np.float64)


def bilinear(inputs: int, outputs: int) -> NDArray[np.float64]:
    """(outputs, inputs): linear interpolation between the centres of equal cells."""
    centres = (np.arange(outputs) + 0.5) * inputs / outputs - 0.5
    hats = 1 - np.abs(np.clip(centres, 0, inputs - 1)[:, None] - np.arange(inputs))
    return np.asarray(np.maximum(hats, 0.0), np.float64)
