"""Residual: how far a patch is from what good ones are, and what a small network sees in the rest.

Three judges of each patch, summed after each was brought to the scale of good images:

* **memory**: the distance of the whitened patch from the nearest in a memory of good ones, shared
  by all places. Whitening (Defard et al. 2021) says what is unusual at a place, the memory (Roth et
  al. 2022) that parts move.
* **coarse**: the Mahalanobis distance of the next deeper level at its place, with one covariance
  for 2 x 2 places: missing parts, wrong shapes.
* **discriminator**: a few small convolutional networks that look at the residual to the nearest
  good patches, at the whitened patch, at both lengths, and at the finest level. They are trained on
  defects drawn into good images (`generalad.training.residual`).

The features are three packed levels of a CNN (`generalad.model.levels`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generalad.config import Config
from generalad.errors import ConfigError
from generalad.model.heads.head import Head
from generalad.model.levels import unpack
from generalad.model.memory import Memory
from generalad.model.whitening import LIMIT, Whitening

REDUCED = 64
"""Channels of a discriminator after its first product."""

COARSE_WEIGHT = 0.5
"""Beside memory and discriminators, each in units of its deviation on good images."""

_FLOOR = 1e-3
"""Added before logarithms."""


class Scale(nn.Module):
    """Brings values to mean 0, deviation 1 over patches of good images; lengths as logarithms."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, logarithm: bool) -> None:
        super().__init__()
        self.logarithm = logarithm
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, values: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return (self._values(values) - self.mean) / self.deviation

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Set both from values of good patches."""
        values = self._values(values)
        self.mean.copy_(values.mean())
        self.deviation.copy_(values.std().clamp(min=1e-3))

    def _values(self, values: Tensor) -> Tensor:
        return values.clamp(min=1).log() if self.logarithm else values


class PatchDiscriminators(nn.Module):
    """`members` small networks side by side: 1 x 1, 3 x 3, 3 x 3, 1 x 1; (B, C, h, w) to (B, h, w).

    The result is the mean of their logits.
    """

    def __init__(self, channels: int, members: int) -> None:
        super().__init__()
        self.channels = channels
        width = REDUCED * members
        self.blocks = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, groups=members),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, groups=members),
            nn.ReLU(),
        )
        self.logits = nn.Conv2d(width, members, 1, groups=members)

    def each(self, inputs: Tensor) -> Tensor:
        """The logits of each member, (B, members, h, w)."""
        return torch.as_tensor(self.logits(self.blocks(inputs)))

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        return self.each(inputs).mean(dim=1)


class ResidualHead(Head):
    """See the module."""

    title = "residual"
    fine_mean: Tensor
    fine_scale: Tensor

    def __init__(
        self, config: Config, grid: tuple[int, int], dim: int, widths: tuple[int, ...] = ()
    ) -> None:
        super().__init__(config, grid, dim, widths)
        if not widths:
            raise ConfigError(
                "the method residual takes three levels of a CNN",
                remedy="use --preset edge, or layers = [2, 3, 4] of a CNN",
            )
        self.width = self.dim
        places = self.statistics_of(config)
        self.whitening = Whitening(places, self.width)
        self.memory = Memory(config.memory_size, self.width)
        coarse = (grid[0] // 2, grid[1] // 2)
        self.coarse = (
            Whitening(1, widths[2])
            if places == 1
            else Whitening(self.patches // 4, widths[2], grid=coarse)
        )
        self.discriminator = PatchDiscriminators(2 * self.width + 2 + 4 * widths[0], config.members)
        self.memory_scale, self.coarse_scale = Scale(logarithm=True), Scale(logarithm=True)
        self.discriminator_scale = Scale(logarithm=False)
        self.register_buffer("fine_mean", torch.zeros(widths[0], 1, 1))
        self.register_buffer("fine_scale", torch.ones(widths[0], 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """See `Head`; D is that of packed levels."""
        return self.add(self.judge(features))

    def judge(self, features: Tensor) -> Tensor:
        """Memory, coarse level and discriminator, (B, 3, N)."""
        near, coarse, inputs = self.measure(features)
        return torch.stack([near, coarse, self.discriminator(inputs)], dim=1).flatten(2)

    def add(self, judged: Tensor) -> Tensor:
        """See `Head`."""
        near, coarse, logits = judged.unbind(dim=1)
        return torch.as_tensor(
            self.memory_scale(near)
            + COARSE_WEIGHT * self.coarse_scale(coarse)
            + self.discriminator_scale(logits)
        )

    def fit_scales(self, judged: Tensor) -> None:
        """Bring the three judges to mean 0 and deviation 1 over patches of good images and views.

        One mean and one deviation each: had these images a say place by place, they would score
        lower than new images do, and the threshold that they set would be too low.
        """
        scales = (self.memory_scale, self.coarse_scale, self.discriminator_scale)
        for scale, values in zip(scales, judged.unbind(dim=1), strict=True):
            scale.fit(values)

    def measure(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the judges look at, of packed features (B, N, D).

        Returns:
            Lengths (B, h, w) for the memory and (B, h, w) for the coarse level, and inputs
            (B, C, h, w) of the discriminators.
        """
        fine, _, coarse = unpack(features, self.widths, self.grid)
        deviation = self.whitening.deviations(self.patch_features(features))
        squared, nearest = self.memory(deviation)
        residual, deviation = (
            part.transpose(1, 2).unflatten(2, self.grid)
            for part in (deviation - nearest, deviation)
        )
        squared = squared.reshape(-1, *self.grid)
        logs = torch.stack(
            [
                (squared / self.width + _FLOOR).log(),
                (deviation.square().mean(dim=1) + _FLOOR).log(),
            ],
            dim=1,
        )
        detail = ((fine - self.fine_mean) / self.fine_scale).clamp(-5, 5)
        inputs = torch.cat(
            [_shortened(residual), _shortened(deviation), logs, F.pixel_unshuffle(detail, 2)], dim=1
        )
        return squared.sqrt(), self._coarse_length(coarse), inputs

    def coarse_patches_of(self, coarse: Tensor) -> Tensor:
        """The third level averaged over 3 x 3 places: (B, N / 4, C)."""
        return F.avg_pool2d(coarse, 3, stride=1, padding=1).flatten(2).transpose(1, 2)

    def _coarse_length(self, coarse: Tensor) -> Tensor:
        deviation = self.coarse.deviations(self.coarse_patches_of(coarse))
        length = deviation.square().sum(dim=-1).sqrt().reshape(coarse.shape[0], *coarse.shape[2:])
        return F.interpolate(
            length.unsqueeze(1), size=self.grid, mode="bilinear", align_corners=False
        ).squeeze(1)


def _shortened(vectors: Tensor) -> Tensor:
    """Vectors along axis 1 with a root mean square of at most `LIMIT`, in their direction."""
    return vectors / (1 + vectors.square().mean(dim=1, keepdim=True) / LIMIT**2).sqrt()
