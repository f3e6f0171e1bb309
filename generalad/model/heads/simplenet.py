"""SimpleNet (Liu et al., CVPR 2023): an adaptor and a small discriminator, patch by patch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generalad.config import Config
from generalad.model.heads.head import Head

MARGIN = 0.5
"""Training brings the scores of clean patches below its negative, those of noisy ones above it."""

SLOPE = 0.2
"""Of the LeakyReLU below zero."""


class PatchMLP(nn.Module):
    """Adapted features (B, N, D) to scores (B, N), each patch by itself; positive is anomalous.

    In training, batch normalisation takes mean and variance over all patches of all B images; in
    evaluation mode it is a fixed scale and offset.

    Args:
        dim: D.
        hidden: width of the hidden layers.
        layers: how many of them.
    """

    def __init__(self, dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Linear(hidden if index else dim, hidden),
                    nn.BatchNorm1d(hidden),
                    nn.LeakyReLU(SLOPE),
                )
                for index in range(layers)
            )
        )
        self.head = nn.Linear(hidden, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        scores = self.head(self.blocks(features.flatten(0, 1)))
        return torch.as_tensor(scores.reshape(features.shape[:2]))


class SimpleNetHead(Head):
    """The adaptor brings features to the domain of the parts, the discriminator judges them."""

    title = "SimpleNet"

    def __init__(
        self, config: Config, grid: tuple[int, int], dim: int, widths: tuple[int, ...] = ()
    ) -> None:
        super().__init__(config, grid, dim, widths)
        self.adaptor = nn.Linear(self.dim, self.dim, bias=False)
        self.discriminator = PatchMLP(self.dim, config.hidden, config.blocks)

    def forward(self, features: Tensor) -> Tensor:
        """See `Head`."""
        return torch.as_tensor(self.discriminator(self.adaptor(self.patch_features(features))))
