"""`Frame`: how the patches of tiles become those of the frame that they were cut from."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generalad.geometry.counted import counted, counted_patches
from generalad.geometry.geometry import Geometry
from generalad.geometry.tiling import stitching, tile_starts
from generalad.model.backbone import Backbone, normalise


class Frame(nn.Module):
    """Cuts and stitches; its buffers follow from the geometry and are not saved.

    Args:
        geometry: with tiles.
        grid: (rows, columns) of the patches of one tile.

    Attributes:
        size: (H, W) of the network's input.
        starts: (top, left) of each tile.
        grid: (rows, columns) of the patches of the frame.
        places: (M,) numbers, among the patches of all tiles, of those that make the frame's.
        patches: (M,) bool, which of these count; None where all do.
    """

    places: Tensor
    numbers: Tensor

    def __init__(self, geometry: Geometry, grid: tuple[int, int]) -> None:
        super().__init__()
        tiles = geometry.tiles
        assert tiles is not None
        self.tiles, self.size = tiles, geometry.tiled_size()
        self.starts = tile_starts(tiles, self.size)
        places = stitching(tiles, self.size, grid)
        self.grid = (places.shape[0], places.shape[1])
        self.register_buffer("places", torch.from_numpy(places.reshape(-1)), persistent=False)
        # A mask of every pixel of a large frame would take longer to draw than it is worth.
        small = (self.size[0] // 4, self.size[1] // 4)
        pixels = counted(geometry, small)
        self.patches: Tensor | None = None
        if pixels is not None:
            chosen = torch.from_numpy(counted_patches(pixels, self.grid).reshape(-1))
            self.patches = chosen
            self.register_buffer("numbers", chosen.nonzero()[:, 0], persistent=False)

    @property
    def count(self) -> int:
        """Patches that count."""
        return math.prod(self.grid) if self.patches is None else len(self.numbers)

    def cut(self, images: Tensor, number: int) -> Tensor:
        """One tile of images (B, H, W, 3): (B, side, side, 3)."""
        (top, left), side = self.starts[number], self.tiles.side
        return images[:, top : top + side, left : left + side]

    def enlarged(self, pixels: Tensor) -> Tensor:
        """Normalised pixels of tiles, (B, 3, side, side), at the network's size."""
        if self.tiles.scale == 1:
            return pixels
        size = [self.tiles.side * self.tiles.scale] * 2
        return F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)

    def features(self, backbone: Backbone, tile: Tensor) -> Tensor:
        """Of tiles (B, side, side, 3) uint8: (B, N, D) float32."""
        pixels = self.enlarged(normalise(tile, backbone.mean, backbone.std))
        return torch.as_tensor(backbone(pixels)).float()

    def stitch(self, tiles: Tensor) -> Tensor:
        """Values of patches of all tiles, (..., T, N), as those of the frame, (..., M)."""
        return tiles.flatten(-2)[..., self.places]

    def chosen(self, patches: Tensor) -> Tensor:
        """Of (..., M) the patches that count."""
        return patches if self.patches is None else patches[..., self.numbers]
