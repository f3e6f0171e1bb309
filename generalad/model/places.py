"""`Places`: which pixels and patches of the network's input count, where some are ignored.

Ignored pixels, and those outside of the frame, have the mean colour of the backbone's training
images, 0 after normalisation, before anything looks at them: what they show cannot reach a score,
through no receptive field.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generalad.config import Config
from generalad.geometry.counted import counted, counted_patches
from generalad.geometry.geometry import Geometry
from generalad.geometry.outside import OUTSIDE

REACH = 1
"""Patches around one that must be inside of the frame for it to count: features look beyond it."""


class Places(nn.Module):
    """What counts, as buffers that follow from the configuration and are not saved.

    Args:
        pixels: (H, W) bool, which count in every image.
        patches: (rows, columns) bool.
        marked: whether images tell which pixels are outside of their frame.

    Attributes:
        pixels: (1, 1, H, W) float32, 1 where a pixel counts and 0 where it does not.
        patches: (N,) bool.
        numbers: (M,) of the patches that count.
    """

    pixels: Tensor
    patches: Tensor
    numbers: Tensor
    outside: Tensor

    def __init__(self, pixels: Tensor, patches: Tensor, *, marked: bool = False) -> None:
        super().__init__()
        self.marked, self.grid = marked, (patches.shape[0], patches.shape[1])
        self.register_buffer("pixels", pixels.float()[None, None], persistent=False)
        self.register_buffer("patches", patches.flatten(), persistent=False)
        self.register_buffer("numbers", patches.flatten().nonzero()[:, 0], persistent=False)
        self.register_buffer("outside", torch.tensor(OUTSIDE).float(), persistent=False)
        # Pixels of a patch; at the end of a side there may be fewer.
        self._patch = [
            -(-length // count) for length, count in zip(pixels.shape, self.grid, strict=True)
        ]

    @classmethod
    def of(cls, config: Config, grid: tuple[int, int]) -> Places | None:
        """Those of a configuration; None where all count.

        Raises:
            ConfigError: nothing is left to inspect.
        """
        if config.tiles:  # places of a tile are none of the frame, see `Frame`
            return None
        return cls.of_geometry(config.geometry, config.image_size, grid, marked=config.align)

    @classmethod
    def of_geometry(
        cls,
        geometry: Geometry | None,
        image_size: tuple[int, int],
        grid: tuple[int, int],
        *,
        marked: bool,
    ) -> Places | None:
        """As `of`."""
        pixels = counted(geometry, image_size)
        if pixels is None and not marked:
            return None
        if pixels is None:
            every = torch.ones(image_size, dtype=torch.bool)
            return cls(every, torch.ones(grid, dtype=torch.bool), marked=True)
        patches = counted_patches(pixels, grid)
        return cls(torch.tensor(pixels), torch.tensor(patches), marked=marked)

    def blank(self, images: Tensor, inside: Tensor | None) -> Tensor:
        """Normalised images (B, 3, H, W) without their ignored pixels; `inside` as of that."""
        images = images * self.pixels
        return images if inside is None else images * inside

    def inside(self, images: Tensor) -> Tensor | None:
        """(B, 1, H, W) float32, 1 for pixels of images (B, H, W, 3) uint8 that are in the frame.

        None where images do not tell.
        """
        if not self.marked:
            return None
        return (images.float() - self.outside).abs().sum(dim=3).clamp(max=1).unsqueeze(1)

    def shown(self, inside: Tensor | None) -> Tensor | None:
        """(B, N) float32, 1 for patches that count in each image; None where the same do in all."""
        if inside is None:
            return None
        outside = F.max_pool2d(1 - inside, self._patch, ceil_mode=True)
        outside = F.max_pool2d(outside, 2 * REACH + 1, stride=1, padding=REACH)
        return (1 - outside).flatten(1) * self.patches.float()

    def chosen(self, patches: Tensor) -> Tensor:
        """Of patch scores (B, N) those that count, (B, M)."""
        return patches[:, self.numbers]
