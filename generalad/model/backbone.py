"""Frozen backbones: images in, one feature vector for each patch out.

Any timm ViT (plain, with registers, DINOv2; DINOv3 and EVA-02, which timm builds as Eva models) and
CNNs with feature levels. The position embedding is resampled once, when weights are loaded, so that
no resize of it enters an exported graph.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.efficientnet import EfficientNet
from timm.models.eva import Eva
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from generalad.errors import ConfigError
from generalad.model.levels import pack, packed_width
from generalad.spec import IMAGENET_MEAN, IMAGENET_STD

Channels = tuple[float, float, float]
"""One number for red, green and blue each."""


class Backbone(nn.Module):
    """What the rest of the project knows of a backbone.

    Attributes:
        grid: (rows, columns) of patches; N = rows x columns.
        dim: D, width of a patch feature.
        has_attention: whether `features_and_attention` can be called.
        widths: channels of each level, where features are packed ones; else empty.
        mean: of the images that the network was trained on, RGB, 0...1; see `normalise`.
        std: their standard deviation.
    """

    grid: tuple[int, int]
    dim: int
    has_attention: bool
    widths: tuple[int, ...] = ()
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD

    def forward(self, images: Tensor) -> Tensor:
        """Patch features (B, N, D) float32 of normalised RGB images (B, 3, H, W)."""
        raise NotImplementedError

    def features_and_attention(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features as `forward`, and the attention of the class token on the patches.

        The attention is that of the last used block, (B, heads, N), 0...1.
        """
        raise ConfigError(
            "this backbone has no class token whose attention could guide distortions",
            remedy="use the distortions random and randshuffle, or a ViT with a class token",
        )


class ViTBackbone(Backbone):
    """Patch tokens after chosen blocks, each through the final LayerNorm, concatenated on D.

    EVA and EVA-02 models that pool by the mean give them without that LayerNorm, as in the
    authors' code.
    """

    def __init__(self, body: nn.Module, layers: tuple[int, ...]) -> None:
        super().__init__()
        depth = len(_attribute(body, "blocks"))
        if max(layers) > depth:
            raise ConfigError(f"layers: expected block numbers up to {depth}, found {max(layers)}")
        # Models that pool by the mean keep their final LayerNorm under another name, where the
        # authors do not look for it. They took features from such models among the EVAs only.
        if not isinstance(body, Eva) and isinstance(body.norm, nn.Identity):
            body.norm = body.fc_norm
        self._indices = [layer - 1 for layer in sorted(layers)]
        _call(body, "prune_intermediate_layers", self._indices)  # drops later blocks and the head
        self.body = body
        self.grid = tuple(_attribute(body, "patch_embed").grid_size)
        self.dim = int(_attribute(body, "embed_dim")) * len(layers)
        self._prefix = int(_attribute(body, "num_prefix_tokens"))
        self.has_attention = getattr(body, "cls_token", None) is not None

    def forward(self, images: Tensor) -> Tensor:
        """See the base class."""
        tokens = self.body.forward_intermediates(  # type: ignore[operator]
            images, indices=self._indices, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return torch.cat(tokens, dim=-1)

    def features_and_attention(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the base class."""
        if not self.has_attention:
            return super().features_and_attention(images)
        attention = _attribute(self.body, "blocks")[-1].attn
        fused, seen = attention.fused_attn, []
        # The unfused path sends its softmax through `attn_drop`, where a hook can read it.
        hook = attention.attn_drop.register_forward_hook(lambda _m, _i, output: seen.append(output))
        attention.fused_attn = False
        try:
            features = self(images)
        finally:
            attention.fused_attn = fused
            hook.remove()
        return features, seen[0][:, :, 0, self._prefix :].float()


class CNNBackbone(Backbone):
    """Feature levels on the shallowest one's grid, each averaged over neighbourhoods there."""

    def __init__(
        self,
        body: nn.Module,
        levels: tuple[int, ...],
        image_size: tuple[int, int],
        pool_size: int,
    ) -> None:
        super().__init__()
        known = _attribute(body, "feature_info")
        if max(levels) >= len(known):
            raise ConfigError(
                f"layers: expected levels up to {len(known) - 1}, found {max(levels)}"
            )
        self._levels, self._pool_size = sorted(levels), pool_size
        _call(body, "prune_intermediate_layers", self._levels)
        self.body = body
        self.has_attention = False
        self.dim = sum(int(known[level]["num_chs"]) for level in self._levels)
        reduction = int(known[self._levels[0]]["reduction"])
        self.grid = (math.ceil(image_size[0] / reduction), math.ceil(image_size[1] / reduction))

    def forward(self, images: Tensor) -> Tensor:
        """See the base class."""
        maps = self.body.forward_intermediates(  # type: ignore[operator]
            images, indices=self._levels, norm=False, stop_early=True, intermediates_only=True
        )
        maps = maps[:1] + [
            F.interpolate(level, size=self.grid, mode="bilinear", align_corners=False)
            for level in maps[1:]
        ]
        # Zeros outside count, as in the authors' code.
        maps = [
            F.avg_pool2d(level, self._pool_size, stride=1, padding=self._pool_size // 2)
            for level in maps
        ]
        return torch.cat(maps, dim=1).flatten(2).transpose(1, 2)


class LevelsBackbone(Backbone):
    """Three levels of a CNN, each of half the size of the one before, on the grid of the second.

    They lie there without loss, see `generalad.model.levels`.
    """

    def __init__(
        self, body: nn.Module, levels: tuple[int, ...], image_size: tuple[int, int]
    ) -> None:
        super().__init__()
        _leave_out_widening(body)
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


def wrap(
    body: nn.Module,
    layers: tuple[int, ...],
    image_size: tuple[int, int],
    *,
    pool_size: int = 3,
    packed: bool = False,
) -> Backbone:
    """Wrap a timm model that was built for `image_size`; frozen, in evaluation mode.

    Args:
        body: the model.
        layers: 1-based blocks of a ViT, levels of a CNN.
        image_size: (H, W) in pixels.
        pool_size: side of the neighbourhoods that features of a CNN are averaged over, odd.
        packed: keep three levels of a CNN apart (`generalad.model.levels`).

    Returns:
        The backbone, with the mean and std of timm's `pretrained_cfg`.
    """
    backbone: Backbone
    if hasattr(body, "blocks") and hasattr(body, "patch_embed"):
        patch = _attribute(body, "patch_embed").patch_size
        for name, pixels, size in zip(("height", "width"), image_size, patch, strict=True):
            if pixels % size:
                near = max(1, round(pixels / size)) * size
                raise ConfigError(
                    f"image_size: {name} {pixels} is not a multiple of the patch size {size}",
                    remedy=f"use {near}",
                )
        backbone = ViTBackbone(body, layers)
    elif hasattr(body, "forward_intermediates") and hasattr(body, "feature_info"):
        if packed:
            backbone = LevelsBackbone(body, layers, image_size)
        else:
            backbone = CNNBackbone(body, layers, image_size, pool_size)
        _for_inference(body)
    else:
        raise ConfigError(
            f"a {type(body).__name__} gives no intermediate features",
            remedy="choose a timm ViT (vit_*, eva02_*) or a CNN such as wide_resnet50_2",
        )
    published = dict(getattr(body, "pretrained_cfg", None) or {})
    backbone.mean = _channels(published.get("mean"), IMAGENET_MEAN)
    backbone.std = _channels(published.get("std"), IMAGENET_STD)
    return backbone.eval().requires_grad_(False)


def _leave_out_widening(body: nn.Module) -> None:
    """Make a last stage that only adds channels no part of the last level, in place.

    EfficientNets and MobileNetV2 end in a stage for their classifier: of lite0 320 channels after
    192 of the same stride. The 192 see defects as well, for less (docs/quality.md).
    """
    if not isinstance(body, EfficientNet):
        return
    before, last = body.blocks[-2:]
    if any(conv.stride != (1, 1) for conv in _convolutions(last)):
        return
    *others, end = body.feature_info
    width = _convolutions(before)[-1].out_channels
    body.feature_info = [*others, {**end, "stage": end["stage"] - 1, "num_chs": width}]
    body.stage_ends = [info["stage"] for info in body.feature_info]


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def _for_inference(body: nn.Module) -> None:
    """Make a frozen CNN quick, in place: the same values up to rounding, 2.4 times as fast.

    Weights are laid out channels last, which convolutions then keep. Where a network is known to
    normalise what its convolutions give in the order of its modules, that goes into their weights.
    """
    if isinstance(body, EfficientNet | ResNet):
        for module in body.modules():
            parts = list(module.named_children())
            for (name, first), (after, second) in itertools.pairwise(parts):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    setattr(module, name, fuse_conv_bn_eval(first.eval(), second.eval()))
                    setattr(module, after, getattr(second, "act", nn.Identity()))
    body.to(memory_format=torch.channels_last)


def _channels(found: Any, default: Channels) -> Channels:
    values = tuple(float(value) for value in found or ())
    return (values[0], values[1], values[2]) if len(values) == 3 else default


def normalise(images: Tensor, mean: Channels, std: Channels) -> Tensor:
    """Images (B, H, W, 3) uint8 RGB to network input (B, 3, H, W) float32.

    Args:
        images: 0...255.
        mean: of the backbone.
        std: of the backbone.
    """
    centre = torch.tensor(mean, device=images.device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=images.device).view(1, 3, 1, 1)
    return (images.permute(0, 3, 1, 2).float() / 255.0 - centre) / scale


# timm's models carry no types, so their members are looked up here, in one place.
def _attribute(module: nn.Module, name: str) -> Any:
    return getattr(module, name)


def _call(module: nn.Module, name: str, argument: Any) -> Any:
    return getattr(module, name)(argument)
