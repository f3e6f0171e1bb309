"""The detector: backbone and discriminator as one module, from images to raw scores and maps.

`Detector.forward` is the very graph that is exported: uint8 images in; cast, normalise, backbone,
discriminator, top-k mean, bilinear upsampling and Gaussian smoothing inside; resize and threshold
outside.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generalad.config import Config
from generalad.errors import ConfigError
from generalad.model.backbone import Backbone, normalise
from generalad.model.discriminator import Discriminator
from generalad.model.whitening import Whitening

MAP_PIXELS_PER_PATCH = 4


class Detector(nn.Module):
    """A frozen backbone under a trained discriminator.

    Attributes:
        map_size: (h, w) of the maps: four pixels a patch on each axis.
    """

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        if backbone.dim % config.heads:
            raise ConfigError(
                f"heads: expected a divisor of the feature width {backbone.dim},"
                f" found {config.heads}"
            )
        self.config = config
        self.backbone = backbone
        patches = backbone.grid[0] * backbone.grid[1]
        self.discriminator = Discriminator(
            patches=patches,
            dim=backbone.dim,
            hidden=config.hidden,
            heads=config.heads,
            blocks=config.blocks,
            dropout=config.dropout,
        )
        self.whitening = Whitening(patches, backbone.dim) if config.whitened else None
        if self.whitening is not None:
            self.discriminator.share_positions()
        self.top_k = min(config.top_k or patches, patches)
        self.map_size = (
            backbone.grid[0] * MAP_PIXELS_PER_PATCH,
            backbone.grid[1] * MAP_PIXELS_PER_PATCH,
        )
        self.smoothing = GaussianSmoothing(
            sigma=config.smoothing_sigma,
            radius=config.smoothing_radius,
            scale=self.map_size[0] / config.image_size[0],
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw scores and maps; higher is more anomalous, nothing is clamped.

        Args:
            images: (B, H, W, 3) uint8, RGB, of the configured size.

        Returns:
            scores (B,) float32 and maps (B, h, w) float32.
        """
        features = self.backbone(normalise(images)).float()
        if self.whitening is not None:
            features = self.whitening(features)
        logits = self.discriminator(features)
        return self.scores(logits), self.maps(logits)

    def scores(self, logits: Tensor) -> Tensor:
        """Image scores (B,): the mean of the `top_k` largest of N patch logits (B, N)."""
        return logits.topk(self.top_k, dim=1).values.mean(dim=1)

    def maps(self, logits: Tensor) -> Tensor:
        """Maps (B, h, w) of patch logits (B, N): bilinear upsampling, Gaussian smoothing."""
        rows, columns = self.backbone.grid
        coarse = logits.reshape(-1, 1, rows, columns)
        fine = F.interpolate(coarse, size=self.map_size, mode="bilinear", align_corners=False)
        return torch.as_tensor(self.smoothing(fine).squeeze(1))

    def trained_state(self) -> dict[str, Tensor]:
        """All tensors that training made, by name: everything but the backbone."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith("backbone.")
        }

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Take what `trained_state` gave; RuntimeError if a name or shape differs."""
        backbone = {k: v for k, v in self.state_dict().items() if k.startswith("backbone.")}
        self.load_state_dict({**backbone, **state})

    def train(self, mode: bool = True) -> Detector:
        """Switch the discriminator; the backbone always stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self


class GaussianSmoothing(nn.Module):
    """Separable Gaussian over maps (B, 1, h, w), edges replicated.

    Args:
        sigma: standard deviation in pixels of the network's input; 0 for no smoothing.
        radius: cut-off in pixels of the network's input.
        scale: map pixels for each pixel of the network's input.
    """

    kernel: Tensor

    def __init__(self, *, sigma: float, radius: int, scale: float) -> None:
        super().__init__()
        self.radius = max(1, round(radius * scale)) if sigma > 0 and radius > 0 else 0
        offsets = torch.arange(-self.radius, self.radius + 1, dtype=torch.float64)
        weights = torch.exp(-(offsets**2) / (2 * max(sigma * scale, math.ulp(1.0)) ** 2))
        kernel = (weights / weights.sum()).float()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, 1, h, w) to (B, 1, h, w)."""
        if not self.radius:
            return maps
        radius = self.radius
        maps = F.pad(maps, (radius, radius, radius, radius), mode="replicate")
        maps = F.conv2d(maps, self.kernel.view(1, 1, -1, 1))
        return F.conv2d(maps, self.kernel.view(1, 1, 1, -1))
