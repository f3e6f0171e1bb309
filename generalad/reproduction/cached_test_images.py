"""Test images whose features are cached, so that many detectors and epochs share one pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from generalad.data.dataset import Dataset
from generalad.errors import DataError
from generalad.files import sha256_of_file
from generalad.metrics.ranking import auroc
from generalad.model.detector import Detector
from generalad.parallel import map_threads
from generalad.preprocess import read_image, resize
from generalad.progress import Progress, no_progress
from generalad.runtime.backends.session import Outputs
from generalad.training.cache import Features
from generalad.training.material import Material

_BATCH = 16


class CachedTestImages:
    """The test images of a dataset, to be scored by detectors of one backbone.

    Features are kept in half precision, as those of training images are. Methods that see the
    images themselves are given them each time, and their backbone too.

    Args:
        dataset: with test images.
        cache: folder of the feature cache; None for the usual one.
        progress: called with ("test features", images done, images).
    """

    def __init__(
        self, dataset: Dataset, *, cache: Path | None = None, progress: Progress | None = None
    ) -> None:
        if not dataset.test or len({sample.defective for sample in dataset.test}) < 2:
            raise DataError(
                f"{dataset.root}, {dataset.name}: an AUROC needs good and defective test images",
                remedy="choose other --classes, or add what is missing",
            )
        self.dataset, self.cache, self.progress = dataset, cache, progress or no_progress
        self.has_masks = any(sample.masks for sample in dataset.test)
        self._features: Features | None = None

    def prepare(self, detector: Detector, weights_sha256: str) -> None:
        """Pass what is not cached yet through the backbone of `detector`."""
        if _sees_images(detector) or self._features is not None:
            return
        paths = [sample.path for sample in self.dataset.test]
        try:
            hashes = dict(zip(paths, map_threads(sha256_of_file, paths), strict=True))
        except OSError as error:
            raise DataError(f"cannot read {error.filename}: {error.strerror}") from error
        material = Material(
            train=(),
            held_out=(),
            hashes=hashes,
            backbone=detector.backbone,
            config=detector.config,
            geometry=detector.config.geometry,
            weights_hash=weights_sha256,
            device=next(detector.parameters()).device,
            folder=self.cache,
            budget=None,
            progress=self.progress,
        )
        self._features = material.of(self.dataset.test, "test features")

    def outputs(self, detector: Detector, *, maps: bool) -> Iterator[Outputs]:
        """Scores (B,) and maps (B, h, w) of all images in their order, some at a time.

        Without `maps`, (1, 1) stands for each. The detector is put into evaluation mode.
        """
        import torch

        detector.eval()
        device = next(detector.parameters()).device
        samples = self.dataset.test
        for first in range(0, len(samples), _BATCH):
            last = min(first + _BATCH, len(samples))
            with torch.inference_mode():
                if self._features is None:
                    size = detector.config.image_size
                    read = [resize(read_image(sample.path), size) for sample in samples[first:last]]
                    scores, drawn = detector(torch.from_numpy(np.stack(read)).to(device))
                else:
                    batch, _ = self._features.batch(np.arange(first, last), device)
                    patches = detector.head(batch)
                    scores = detector.scores(patches)
                    drawn = detector.maps(patches) if maps else patches.amax(1)[:, None, None]
            yield Outputs(scores.cpu().numpy(), drawn.cpu().numpy())

    def image_auroc(self, detector: Detector) -> float:
        """Of the detector as it is now, 0...1."""
        scores = np.concatenate([part.scores for part in self.outputs(detector, maps=False)])
        return auroc([sample.defective for sample in self.dataset.test], scores)


def _sees_images(detector: Detector) -> bool:
    return bool(getattr(detector.head, "sees_images", False))
