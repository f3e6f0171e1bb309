"""The architecture of the embedded backbone: a small ViT that reads oriented gradients.

A network of this size, trained for minutes, does not learn by itself what machine vision has long
known: local histograms of oriented gradients (Dalal and Triggs 2005) at two scales, beside the
plain colours, describe a surface well. So the stem computes them; its one convolution and the
transformer blocks behind it are what is learned. There is no class token, and no position
embedding: every input size whose sides are multiples of 16 is treated alike.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

PATCH = 16
_CELL = 8
_SIGMA = 4.0
"""Of the windows in pixels. Wide, overlapping Gaussian windows make the histograms change smoothly
when a part lies a pixel off its place."""
_ORIENTATIONS = 8
CHANNELS = 2 * (_ORIENTATIONS + 1) + 3


class GradientStem(nn.Module):
    """Images (B, 3, H, W) to tokens (B, N, D), N = H/16 x W/16; stands in for timm's PatchEmbed.

    Args:
        img_size: (H, W) in pixels.
        embed_dim: D.
        unused: what else timm hands to a patch embedding.
    """

    kernels: Tensor
    window: Tensor

    def __init__(self, *, img_size: tuple[int, int], embed_dim: int, **unused: Any) -> None:
        super().__init__()
        self.img_size = img_size
        self.patch_size = (PATCH, PATCH)
        self.grid_size = (img_size[0] // PATCH, img_size[1] // PATCH)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.register_buffer("kernels", _directional_derivatives(), persistent=False)
        self.register_buffer("window", _gaussian_window(), persistent=False)
        self.norm = nn.BatchNorm2d(CHANNELS, momentum=0.02)
        # Four cells at a step of two: a token sees one cell beyond its own patch on each side.
        self.embed = nn.Conv2d(CHANNELS, embed_dim, 4, stride=PATCH // _CELL, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        with _full_precision(images.device.type):
            cells = self.norm(self.describe(images.float()))
        tokens: Tensor = self.embed(cells)
        return tokens.flatten(2).transpose(1, 2)

    def describe(self, images: Tensor) -> Tensor:
        """Gradients by orientation at two scales, and colours: (B, 21, H/8, W/8)."""
        grey = images.mean(dim=1, keepdim=True)
        fine = self._histograms(grey, _CELL)
        coarse = self._histograms(F.avg_pool2d(grey, 2), _CELL // 2)
        return torch.cat([fine, coarse, self._pool(images, _CELL)], dim=1)

    def _histograms(self, grey: Tensor, step: int) -> Tensor:
        """Shares of eight directions in the rising slope, and the log of its mean: (B, 9, h, w)."""
        slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), self.kernels).relu()
        slopes = self._pool(slopes, step)
        mean = slopes.mean(dim=1, keepdim=True)
        # The constants lie above the noise of a camera, which would else be blown up.
        return torch.cat([slopes / (mean + 0.05), (mean + 0.02).log()], dim=1)

    def _pool(self, images: Tensor, step: int) -> Tensor:
        """Gaussian means around the centres of cells of `step` pixels."""
        size, channels = self.window.shape[0], images.shape[1]
        margin = (size - step) // 2
        padded = F.pad(images, (margin, margin, margin, margin), mode="replicate")
        weight = self.window.expand(channels, 1, size, size).contiguous()
        return F.conv2d(padded, weight, stride=step, groups=channels)


def _full_precision(device: str) -> contextlib.AbstractContextManager[object]:
    """No autocast: differences of neighbouring pixels would drown in half precision.

    Nothing at all where autocast is off, so that an exported graph does not see it.
    """
    if torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def _directional_derivatives() -> Tensor:
    """Central differences towards eight directions, (8, 1, 3, 3)."""
    kernels = torch.zeros(_ORIENTATIONS, 1, 3, 3)
    for index, kernel in enumerate(kernels[:, 0]):
        angle = 2 * math.pi * index / _ORIENTATIONS
        kernel[1, 2], kernel[1, 0] = math.cos(angle), -math.cos(angle)
        kernel[2, 1], kernel[0, 1] = math.sin(angle), -math.sin(angle)
    return kernels


def _gaussian_window() -> Tensor:
    """A Gaussian on an even number of pixels, cut at three sigma; its sum is 1."""
    size = round(6 * _SIGMA)
    offsets = torch.arange(size) - (size - 1) / 2
    weights = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    return torch.outer(weights, weights)


def build_embedded(
    *, width: int, depth: int, heads: int, features: int, image_size: tuple[int, int]
) -> VisionTransformer:
    """The embedded backbone with initial values.

    Args:
        width: of the tokens.
        depth: transformer blocks.
        heads: attention heads of a block.
        features: D of the patch features; a linear layer behind the last LayerNorm gives them.
        image_size: (H, W) in pixels, multiples of 16.
    """
    body = VisionTransformer(
        img_size=image_size,
        patch_size=PATCH,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        num_classes=0,
        class_token=False,
        global_pool="",
        pos_embed="none",
        embed_layer=GradientStem,
    )
    norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
    body.norm = nn.Sequential(norm, nn.Linear(width, features, bias=False))
    body.embed_dim = features  # `ViTBackbone` reads the width of a feature from it
    return body
