"""`Material`: what heads learn from, each part computed when it is asked for and then cached."""

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
from generalad.geometry.geometry import Geometry
from generalad.model.backbone import Backbone
from generalad.model.heads import Head, build_head
from generalad.progress import Progress
from generalad.synth.views import Views
from generalad.training.cache import (
    Features,
    cached_features,
    count_cached,
    default_budget,
)
from generalad.training.distortions import NEEDS_ATTENTION
from generalad.training.feature_pass import Drawing
from generalad.training.images import Images
from generalad.training.loop import images_seen
from generalad.training.processes import ALONE, Processes
from generalad.training.synthetic_defects import DrawnDefects
from generalad.training.training_tiles import MOST_PATCHES, TrainingTiles

MOST_VIEWS, ENOUGH_VIEWS, VIEWS_OF_FEW = 320, 160, 8
"""One view of each image up to so many; of few images so many in all, up to so many of each."""

TURNED_VIEWS = 480
"""As `ENOUGH_VIEWS`, where images are turned in them."""


@dataclass(frozen=True)
class Material:
    """See the module.

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
        kept: features by their stage, once they were asked for; None to read them anew each time.
        geometry: what of each image is judged.
        tiles: of the training images, learned from in their place; None to learn from whole images.
        turned: whether views are turned too, see `generalad.training.orientation`.
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
    kept: dict[str, Features] | None = None
    geometry: Geometry | None = None
    tiles: TrainingTiles | None = None
    turned: bool = False

    def good(self) -> Features:
        """Features of the training images, or of those that some epoch sees; or of tiles."""
        if self.tiles is not None:
            return self._features(self.train, "features")
        numbers = self._seen()
        found = self._features([self.train[number] for number in numbers], "features")
        if len(numbers) == len(self.train):
            return found
        return dataclasses.replace(found, numbers=numbers, count=len(self.train))

    def of(self, samples: Sequence[Sample], stage: str, drawing: Drawing | None = None) -> Features:
        """Features of any images whose hashes are known, in their order, or of what is drawn."""
        return self._features(samples, stage, drawing)

    def images(self) -> Images:
        """The training images themselves; half the budget is theirs, features may take the rest."""
        budget = default_budget() if self.budget is None else self.budget
        paths = [s.path for s in self.train]
        return Images(paths, self.config.image_size, budget // 2, geometry=self.geometry)

    def held_out_good(self) -> Features:
        """Features of the held-out images."""
        return self._features(self.held_out, "held-out features")

    def views(self) -> Features:
        """Features of views of the training images."""
        count = self.count
        enough = TURNED_VIEWS if self.turned else ENOUGH_VIEWS
        some = max(min(count, MOST_VIEWS), min(VIEWS_OF_FEW * count, enough))
        drawing = Views(count, some, self.config.seed, turned=self.turned)
        return self._features(self.train, "views", drawing)

    def held_out_views(self) -> Features:
        """Features of one view of each held-out image."""
        count = len(self.held_out)
        return self._features(self.held_out, "held-out views", Views(count, count, seed=0))

    def drawn(self) -> Features:
        """Features of training images with drawn defects, and the defects' shares of patches."""
        return self._features(self.train, "drawn defects", self.drawing())

    def drawing(self) -> DrawnDefects:
        """How the drawn defects of `drawn` are made."""
        drawn = self.config.drawn
        if self.tiles is not None:
            rows, columns = self.backbone.grid
            drawn = min(drawn, MOST_PATCHES // (rows * columns))
        return DrawnDefects(self.count, drawn, self.config.seed)

    @property
    def count(self) -> int:
        """Images, or tiles, to learn from."""
        return len(self.train) if self.tiles is None else len(self.tiles.images)

    def sources(self, numbers: NDArray[np.intp]) -> NDArray[np.intp]:
        """The training images of images or tiles, given by their numbers."""
        return numbers if self.tiles is None else self.tiles.sources[numbers]

    def new_head(self) -> Head:
        """A head that was taught nothing, with initial values of the run's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return build_head(self.config, self.backbone).to(self.device)

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
        geometry = self.geometry
        return {
            "name": self.config.backbone,
            "layers": sorted(self.config.layers),
            "pool_size": self.config.pool_size,
            "levels": list(self.backbone.widths) or "joined",
            "weights": self.weights_hash,
            "mean": self.backbone.mean,
            "std": self.backbone.std,
            **({} if geometry is None else {"geometry": dataclasses.asdict(geometry)}),
        }

    def _attention(self) -> bool:
        return self.config.method == "generalad" and bool(
            NEEDS_ATTENTION & set(self.config.distortions)
        )

    def _features(
        self, samples: Sequence[Sample], stage: str, drawing: Drawing | None = None
    ) -> Features:
        if self.kept is not None and stage in self.kept:
            return self.kept[stage]
        paths, hashes, given = [sample.path for sample in samples], [], None
        hashes = [self.hashes[path] for path in paths]
        geometry = self.geometry
        if self.tiles is not None:
            # Whatever is asked for is of tiles; places that are ignored are painted over in them.
            paths = [paths[number] for number in self.tiles.sources]
            hashes = [
                f"{self.hashes[path]} {name}"
                for path, name in zip(paths, self.tiles.names, strict=True)
            ]
            given, geometry = self.tiles.images, None
        found = cached_features(
            paths,
            hashes,
            self.backbone,
            identity=self._identity(),
            image_size=self.config.image_size,
            attention=self._attention(),
            device=self.device,
            folder=self.folder,
            budget=self.budget,
            stage=stage,
            geometry=geometry,
            given=given,
            drawing=drawing,
            progress=self.progress,
            processes=self.processes,
        )
        if self.kept is not None:
            self.kept[stage] = found
        return found
