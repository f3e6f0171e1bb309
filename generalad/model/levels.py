"""Feature levels of a CNN on one grid, without loss: what heads need that look at several levels.

A finer level comes to the grid by stacking the places of a cell into channels, a coarser one by
spreading its channels over the places of a cell (Shi et al. 2016, sub-pixel shuffling). So three
levels are one array of patch features, which the cache, training and the exported graph treat like
any other, and a head takes them apart again.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generalad.errors import ConfigError
from generalad.model.backbone import Backbone, _attribute, _call


class LevelsBackbone(Backbone):
    """Three levels of a CNN, each of half the size of the one before, on the grid of the second.

    Attributes:
        widths: channels of each level.
    """

    def __init__(
        self, body: nn.Module, levels: tuple[int, ...], image_size: tuple[int, int]
    ) -> None:
        super().__init__()
        known = _attribute(body, "feature_info")
        levels = tuple(sorted(levels))
        if len(levels) != 3 or max(levels) >= len(known):
            raise ConfigError(
                f"layers: this method takes three levels up to {len(known) - 1}, found {levels}"
            )
        strides = [int(known[level]["reduction"]) for level in levels]
        if strides[1] != 2 * strides[0] or strides[2] != 2 * strides[1]:
            raise ConfigError(f"layers: expected strides that double, found {strides}")
        for name, pixels in zip(("height", "width"), image_size, strict=True):
            if pixels % strides[2]:
                near = max(1, round(pixels / strides[2])) * strides[2]
                raise ConfigError(
                    f"image_size: {name} {pixels} is not a multiple of {strides[2]}",
                    remedy=f"use {near}",
                )
        self._levels = list(levels)
        _call(body, "prune_intermediate_layers", self._levels)
        self.body = body
        self.has_attention = False
        self.grid = (image_size[0] // strides[1], image_size[1] // strides[1])
        self.widths = tuple(int(known[level]["num_chs"]) for level in levels)
        self.dim = packed_width(self.widths)

    def forward(self, images: Tensor) -> Tensor:
        """See `Backbone`; D is that of `pack`."""
        maps = self.body.forward_intermediates(  # type: ignore[operator]
            images, indices=self._levels, norm=False, stop_early=True, intermediates_only=True
        )
        return pack(maps)


def packed_width(widths: tuple[int, ...]) -> int:
    """D of packed levels with so many channels."""
    fine, middle, coarse = widths
    if coarse % 4:
        raise ConfigError(f"layers: the last level's {coarse} channels are no multiple of 4")
    return 4 * fine + middle + coarse // 4


def pack(levels: list[Tensor]) -> Tensor:
    """Maps (B, C, 2h, 2w), (B, C', h, w) and (B, C'', h/2, w/2) as features (B, h w, D)."""
    fine, middle, coarse = levels
    parts = [F.pixel_unshuffle(fine, 2), middle, F.pixel_shuffle(coarse, 2)]
    return torch.cat(parts, dim=1).flatten(2).transpose(1, 2)


def patch_features(features: Tensor, widths: tuple[int, ...], grid: tuple[int, int]) -> Tensor:
    """Of packed levels, the first two, each averaged over 3 x 3 places: (B, N, C + C')."""
    fine, middle, _ = unpack(features, widths, grid)
    fine = F.avg_pool2d(F.avg_pool2d(fine, 3, stride=1, padding=1), 2)
    middle = F.avg_pool2d(middle, 3, stride=1, padding=1)
    return torch.cat([fine, middle], dim=1).flatten(2).transpose(1, 2)


def unpack(
    features: Tensor, widths: tuple[int, ...], grid: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The three maps of `pack`."""
    fine, middle, coarse = widths
    maps = features.transpose(1, 2).reshape(len(features), -1, *grid)
    parts = torch.split(maps, [4 * fine, middle, coarse // 4], dim=1)
    return F.pixel_shuffle(parts[0], 2), parts[1], F.pixel_unshuffle(parts[2], 2)
