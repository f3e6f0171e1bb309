"""The detector: backbone and head as one module, from images to raw scores and maps.

`Detector.forward` is the very graph that is exported: uint8 images in; cast, normalise, backbone,
head, top-k mean, upsampling and smoothing inside; resize and threshold outside.
"""

from __future__ import annotations

from torch import Tensor, nn

from generalad.config import Config
from generalad.model.anomaly_map import AnomalyMap
from generalad.model.backbone import Backbone, normalise
from generalad.model.heads import Head, build_head


class Detector(nn.Module):
    """A frozen backbone under the head of a method.

    Attributes:
        map_size: (h, w) of the maps: four pixels a patch on each axis.
    """

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.head: Head = build_head(config, backbone)
        places = self.head.places
        patches = self.head.patches if places is None else len(places.numbers)
        self.top_k = min(config.top_k or patches, patches)
        self.maps = AnomalyMap(
            grid=backbone.grid,
            image_size=config.image_size,
            sigma=config.smoothing_sigma,
            radius=config.smoothing_radius,
            counted=None if places is None else places.patches,
        )
        self.map_size = self.maps.map_size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw scores and maps; higher is more anomalous, nothing is clamped.

        Args:
            images: (B, H, W, 3) uint8, RGB, of the configured size.

        Returns:
            scores (B,) float32 and maps (B, h, w) float32.
        """
        pixels = normalise(images, self.backbone.mean, self.backbone.std)
        if self.head.places is not None:
            pixels = self.head.places.blank(pixels)
        seen = (pixels,) if self.head.sees_images else ()
        patches = self.head(self.backbone(pixels).float(), *seen)
        return self.scores(patches), self.maps(patches)

    def scores(self, patches: Tensor) -> Tensor:
        """Image scores (B,): the mean of the `top_k` largest of N patch scores (B, N)."""
        if self.head.places is not None:
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
