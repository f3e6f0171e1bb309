"""GeneralAD (Sträter et al., ECCV 2024): an attention discriminator over patch features."""

from __future__ import annotations

import torch
from torch import Tensor

from generalad.config import Config
from generalad.errors import ConfigError
from generalad.model.discriminator import Discriminator
from generalad.model.heads.head import Head
from generalad.model.whitening import Whitening


class GeneralADHead(Head):
    """The discriminator, behind whitening where the configuration asks for it."""

    title = "GeneralAD"

    def __init__(
        self, config: Config, grid: tuple[int, int], dim: int, widths: tuple[int, ...] = ()
    ) -> None:
        super().__init__(config, grid, dim, widths)
        dim = self.dim
        if dim % config.heads:
            raise ConfigError(
                f"heads: expected a divisor of the feature width {dim}, found {config.heads}"
            )
        self.discriminator = Discriminator(
            patches=self.patches,
            dim=dim,
            hidden=config.hidden,
            heads=config.heads,
            blocks=config.blocks,
            dropout=config.dropout,
        )
        self.whitening = Whitening(self.patches, dim) if config.whitened else None
        if self.whitening is not None:
            self.discriminator.share_positions()

    def forward(self, features: Tensor) -> Tensor:
        """See `Head`; a score is a logit."""
        features = self.patch_features(features)
        if self.whitening is not None:
            features = self.whitening(features)
        return torch.as_tensor(self.discriminator(features))
