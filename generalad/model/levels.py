"""Feature levels of a CNN on one grid, without loss: what heads need that look at several levels.

A finer level comes to the grid by stacking the places of a cell into channels, a coarser one by
spreading its channels over the places of a cell (Shi et al. 2016, sub-pixel shuffling). So three
levels are one array of patch features, which the cache, training and the exported graph treat like
any other, and a head takes them apart again.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from generalad.errors import ConfigError


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
    maps = features.transpose(1, 2).reshape(features.shape[0], -1, *grid)
    parts = torch.split(maps, [4 * fine, middle, coarse // 4], dim=1)
    return F.pixel_shuffle(parts[0], 2), parts[1], F.pixel_unshuffle(parts[2], 2)
