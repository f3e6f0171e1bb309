"""The detector: backbone and head as one module, from images to raw scores and maps.

`Detector.forward` is the very graph that is exported: uint8 images in; cast, normalise, backbone,
head, top-k mean, upsampling and smoothing inside; resize and threshold outside.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generalad.config import Config
from generalad.geometry.geometry import Geometry
from generalad.model.anomaly_map import AnomalyMap
from generalad.model.backbone import Backbone, normalise
from generalad.model.frame import Frame
from generalad.model.heads import Head, build_head


class Detector(nn.Module):
    """A frozen backbone under the head of a method.

    Attributes:
        image_size: (H, W) of the images.
        frame: how tiles are cut out of them; None where they are seen as a whole.
        map_size: (h, w) of the maps: four pixels a patch on each axis.
    """

    ranks: Tensor

    def __init__(
        self, config: Config, backbone: Backbone, geometry: Geometry | None = None
    ) -> None:
        """For the frames of `geometry` where that has tiles; then `backbone` is that of a tile."""
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.head: Head = build_head(config, backbone)
        tiled = geometry is not None and geometry.tiles is not None
        self.frame = Frame(geometry, backbone.grid) if geometry is not None and tiled else None
        places = self.head.places
        counted = None if places is None else places.patches
        patches = self.head.patches if places is None else len(places.numbers)
        if self.frame is not None:
            counted, patches = self.frame.patches, self.frame.count
        self.image_size = config.image_size if self.frame is None else self.frame.size
        self.top_k = min(config.top_k or patches, patches)
        self.register_buffer("ranks", torch.arange(self.top_k).float(), persistent=False)
        scale = 1 if self.frame is None else self.frame.tiles.scale
        self.maps = AnomalyMap(
            grid=backbone.grid if self.frame is None else self.frame.grid,
            image_size=self.image_size,
            sigma=config.smoothing_sigma / scale,  # in pixels of the frame
            radius=-(-config.smoothing_radius // scale),
            counted=counted,
        )
        self.map_size = self.maps.map_size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw scores and maps; higher is more anomalous, nothing is clamped.

        Args:
            images: (B, H, W, 3) uint8, RGB, of `image_size`.

        Returns:
            scores (B,) float32 and maps (B, h, w) float32.
        """
        if self.frame is None:
            patches, shown = self.patches(images)
        else:
            numbers = range(len(self.frame.starts))
            tiles = [self.patches(self.frame.cut(images, number))[0] for number in numbers]
            patches, shown = self.frame.stitch(torch.stack(tiles, dim=1)), None
        return self.scores(patches, shown), self.maps(patches, shown)

    def patches(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Patch scores (B, N) of images, or tiles, of the backbone's size.

        Also which of them count, (B, N) float32 0 or 1; None where the same do in all images.
        """
        if self.frame is not None:
            return torch.as_tensor(self.head(self.frame.features(self.backbone, images))), None
        pixels = normalise(images, self.backbone.mean, self.backbone.std)
        shown = None
        if self.head.places is not None:
            inside = self.head.places.inside(images)
            pixels = self.head.places.blank(pixels, inside)
            shown = self.head.those_taught(self.head.places.shown(inside))
        seen = (pixels,) if self.head.sees_images else ()
        return torch.as_tensor(self.head(self.backbone(pixels).float(), *seen)), shown

    def scores(self, patches: Tensor, shown: Tensor | None = None) -> Tensor:
        """Image scores (B,): the mean of the `top_k` largest of N patch scores (B, N).

        Args:
            patches: their scores.
            shown: which of them count in each image, as of `patches`.
        """
        if shown is not None:
            least = patches.amin(dim=1, keepdim=True)
            largest = torch.where(shown > 0, patches, least).topk(self.top_k, dim=1).values
            counts = (self.ranks < shown.sum(dim=1, keepdim=True)).float()
            return (largest * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
        if self.frame is not None:
            patches = self.frame.chosen(patches)
        elif self.head.places is not None:
            patches = self.head.places.chosen(patches)
        return patches.topk(self.top_k, dim=1).values.mean(dim=1)

    def trained_state(self) -> dict[str, Tensor]:
        """All tensors that training made, by name: everything but the backbone."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith("backbone.")
        }

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Take what `trained_state` gave; RuntimeError if a name or shape differs."""
        backbone = {k: v for k, v in self.state_dict().items() if k.startswith("backbone.")}
        self.load_state_dict({**backbone, **state})

    def train(self, mode: bool = True) -> Detector:
        """Switch the head; the backbone always stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self
