"""`Places`: which pixels and patches of the network's input count, where some are ignored.

Ignored pixels have the mean colour of the backbone's training images, 0 after normalisation, before
anything looks at them: what they show cannot reach a score, through no receptive field.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generalad.config import Config
from generalad.geometry.counted import counted, counted_patches
from generalad.geometry.geometry import Geometry


class Places(nn.Module):
    """What counts, as buffers that follow from the configuration and are not saved.

    Attributes:
        pixels: (1, 1, H, W) float32, 1 where a pixel counts and 0 where it does not.
        patches: (N,) bool.
        numbers: (M,) of the patches that count.
    """

    pixels: Tensor
    patches: Tensor
    numbers: Tensor

    def __init__(self, pixels: Tensor, patches: Tensor) -> None:
        super().__init__()
        self.register_buffer("pixels", pixels.float()[None, None], persistent=False)
        self.register_buffer("patches", patches.flatten(), persistent=False)
        self.register_buffer("numbers", patches.flatten().nonzero()[:, 0], persistent=False)

    @classmethod
    def of(cls, config: Config, grid: tuple[int, int]) -> Places | None:
        """Those of a configuration; None where all count.

        Raises:
            ConfigError: nothing is left to inspect.
        """
        if config.tiles:  # places of a tile are none of the frame, see `Frame`
            return None
        return cls.of_geometry(config.geometry, config.image_size, grid)

    @classmethod
    def of_geometry(
        cls, geometry: Geometry | None, image_size: tuple[int, int], grid: tuple[int, int]
    ) -> Places | None:
        """As `of`."""
        pixels = counted(geometry, image_size)
        if pixels is None:
            return None
        return cls(torch.tensor(pixels), torch.tensor(counted_patches(pixels, grid)))

    def blank(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) without their ignored pixels."""
        return images * self.pixels

    def chosen(self, patches: Tensor) -> Tensor:
        """Of patch scores (B, N) those that count, (B, M)."""
        return patches[:, self.numbers]
