"""How each method learns: what it takes of a dataset (`Material`), and `fit_head`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from generalad.config import Config
from generalad.data.dataset import Sample
from generalad.model.backbone import Backbone
from generalad.model.heads import GaussianHead, GeneralADHead, Head, PatchCoreHead, ResidualHead
from generalad.progress import Progress
from generalad.synth.views import Views
from generalad.training.cache import (
    Features,
    cached_features,
    channel_spread,
    count_cached,
)
from generalad.training.distortions import NEEDS_ATTENTION
from generalad.training.feature_pass import Drawing
from generalad.training.loop import OnEpoch, fit, images_seen
from generalad.training.processes import ALONE, Processes
from generalad.training.residual import fit_residual
from generalad.training.synthetic_defects import DrawnDefects

MOST_VIEWS, ENOUGH_VIEWS, VIEWS_OF_FEW = 320, 160, 8
"""One view of each image up to so many; of few images so many in all, up to so many of each."""


@dataclass(frozen=True)
class Material:
    """What heads learn from, each part computed when it is asked for and then cached.

    Attributes:
        train: good images to learn from.
        held_out: good images that nothing is trained on.
        hashes: SHA-256 of each file's content.
        backbone: on `device`.
        config: of the run.
        weights_hash: of the backbone.
        device: where features are computed.
        folder: of the cache, None for the usual one.
        budget: bytes of features that may be kept in memory, None for the usual number.
        progress: told how far each part is.
        processes: that compute features together.
    """

    train: Sequence[Sample]
    held_out: Sequence[Sample]
    hashes: Mapping[Path, str]
    backbone: Backbone
    config: Config
    weights_hash: str
    device: torch.device
    folder: Path | None
    budget: int | None
    progress: Progress
    processes: Processes = ALONE

    def good(self) -> Features:
        """Features of the training images, or of those that some epoch sees."""
        numbers = self._seen()
        found = self._features([self.train[number] for number in numbers], "features")
        if len(numbers) == len(self.train):
            return found
        return dataclasses.replace(found, numbers=numbers, count=len(self.train))

    def of(self, samples: Sequence[Sample], stage: str) -> Features:
        """Features of any images whose hashes are known, in their order."""
        return self._features(samples, stage)

    def held_out_good(self) -> Features:
        """Features of the held-out images."""
        return self._features(self.held_out, "held-out features")

    def views(self) -> Features:
        """Features of views of the training images."""
        count = len(self.train)
        some = max(min(count, MOST_VIEWS), min(VIEWS_OF_FEW * count, ENOUGH_VIEWS))
        return self._features(self.train, "views", Views(count, some, self.config.seed))

    def held_out_views(self) -> Features:
        """Features of one view of each held-out image."""
        count = len(self.held_out)
        return self._features(self.held_out, "held-out views", Views(count, count, seed=0))

    def drawn(self) -> Features:
        """Features of training images with drawn defects, and the defects' shares of patches."""
        drawing = DrawnDefects(len(self.train), self.config.drawn, self.config.seed)
        return self._features(self.train, "drawn defects", drawing)

    def cached_good(self) -> int:
        """Training images whose features need not be computed: known already, or never seen."""
        seen = [self.train[number] for number in self._seen()]
        known = count_cached(
            [self.hashes[sample.path] for sample in seen],
            identity=self._identity(),
            image_size=self.config.image_size,
            attention=self._attention(),
            device=self.device,
            folder=self.folder,
        )
        return len(self.train) - len(seen) + known

    def _seen(self) -> NDArray[np.int64]:
        if self.config.has_epochs:
            return images_seen(len(self.train), self.config)
        return np.arange(len(self.train))

    def _identity(self) -> dict[str, Any]:
        return {
            "name": self.config.backbone,
            "layers": sorted(self.config.layers),
            "pool_size": self.config.pool_size,
            "levels": "packed" if self.backbone.widths else "joined",
            "weights": self.weights_hash,
            "mean": self.backbone.mean,
            "std": self.backbone.std,
        }

    def _attention(self) -> bool:
        return self.config.method == "generalad" and bool(
            NEEDS_ATTENTION & set(self.config.distortions)
        )

    def _features(
        self, samples: Sequence[Sample], stage: str, drawing: Drawing | None = None
    ) -> Features:
        return cached_features(
            [sample.path for sample in samples],
            [self.hashes[sample.path] for sample in samples],
            self.backbone,
            identity=self._identity(),
            image_size=self.config.image_size,
            attention=self._attention(),
            device=self.device,
            folder=self.folder,
            budget=self.budget,
            stage=stage,
            drawing=drawing,
            progress=self.progress,
            processes=self.processes,
        )


def fit_head(
    head: Head,
    material: Material,
    config: Config,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> list[float]:
    """Teach a head what good images look like, in place.

    Args:
        head: untrained, on `device`.
        material: to learn from.
        config: of the run.
        device: where to compute.
        checkpoint: where a method that takes long keeps its state. The others take seconds once
            the features are cached, and start over.
        on_epoch: called after each epoch, or some steps, of a method that has any.

    Returns:
        The mean loss of each epoch or step; empty for methods without any.
    """
    if isinstance(head, GeneralADHead):
        features = material.good()
        if head.whitening is not None:
            head.whitening.fit(_patch_features(head, features))
            features = dataclasses.replace(features, whitening=head.whitening)
        if config.noise_follows_features:
            features = dataclasses.replace(features, spread=channel_spread(features.values))
        return fit(
            head.discriminator,
            features,
            config,
            device=device,
            checkpoint=checkpoint,
            progress=material.progress,
            on_epoch=on_epoch,
            processes=material.processes,
        )
    if isinstance(head, ResidualHead):
        drawn = material.drawn()
        assert drawn.shares is not None
        return fit_residual(
            head,
            [material.good().values, material.views().values],
            drawn.values,
            drawn.shares,
            [material.held_out_good().values, material.held_out_views().values],
            config,
            progress=material.progress,
            on_epoch=on_epoch,
        )
    assert isinstance(head, (GaussianHead, PatchCoreHead))
    head.fit(_patch_features(head, material.good()))
    material.progress("training", 1, 1)
    return []


def _patch_features(head: Head, features: Features) -> NDArray[np.float16]:
    """What `Head.patch_features` makes of cached features, (n, N, dim)."""
    if not head.widths:
        return features.values
    parts = [
        head.patch_features(torch.from_numpy(features.values[first : first + 64]).float()).half()
        for first in range(0, len(features.values), 64)
    ]
    return torch.cat(parts).numpy()
