"""How each method learns: what it takes of a dataset (`Material`), and `fit_head`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from generalad.config import Config
from generalad.data.dataset import Sample
from generalad.geometry.geometry import Geometry
from generalad.model.backbone import Backbone
from generalad.model.heads import (
    GaussianHead,
    GeneralADHead,
    Head,
    KDADHead,
    PatchCoreHead,
    ResidualHead,
    SimpleNetHead,
)
from generalad.progress import Progress
from generalad.synth.views import Views
from generalad.training.cache import (
    Features,
    cached_features,
    channel_spread,
    count_cached,
    default_budget,
)
from generalad.training.distortions import NEEDS_ATTENTION
from generalad.training.feature_pass import Drawing
from generalad.training.images import Images
from generalad.training.kdad import fit_kdad
from generalad.training.loop import OnEpoch, fit, images_seen
from generalad.training.processes import ALONE, Processes
from generalad.training.residual import fit_residual
from generalad.training.simplenet import fit_simplenet
from generalad.training.synthetic_defects import DrawnDefects
from generalad.training.training_tiles import MOST_PATCHES, TrainingTiles

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
        kept: features by their stage, once they were asked for; None to read them anew each time.
        geometry: what of each image is judged.
        tiles: of the training images, learned from in their place; None to learn from whole images.
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

    def good(self) -> Features:
        """Features of the training images, or of those that some epoch sees; or of tiles."""
        if self.tiles is not None:
            return self._features(self.train, "features")
        numbers = self._seen()
        found = self._features([self.train[number] for number in numbers], "features")
        if len(numbers) == len(self.train):
            return found
        return dataclasses.replace(found, numbers=numbers, count=len(self.train))

    def of(self, samples: Sequence[Sample], stage: str) -> Features:
        """Features of any images whose hashes are known, in their order."""
        return self._features(samples, stage)

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
        some = max(min(count, MOST_VIEWS), min(VIEWS_OF_FEW * count, ENOUGH_VIEWS))
        return self._features(self.train, "views", Views(count, some, self.config.seed))

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
            "levels": "packed" if self.backbone.widths else "joined",
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


def fit_head(
    head: Head,
    material: Material,
    config: Config,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> list[float]:
    """Teach a head what good images look like, in place, and set its scales on held-out ones.

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
    schedule: _Schedule = {
        "device": device,
        "checkpoint": checkpoint,
        "progress": material.progress,
        "on_epoch": on_epoch,
    }
    if not config.learns_quickly:
        head.learn_places(material.good().shown)
    if isinstance(head, GeneralADHead):
        processes = material.processes
        return _fit_generalad(head, material.good(), config, schedule, processes=processes)
    if isinstance(head, SimpleNetHead):
        return fit_simplenet(head, material.good(), config, **schedule)
    if isinstance(head, KDADHead):
        mean, std = material.backbone.mean, material.backbone.std
        features, images = material.good(), material.images()
        return fit_kdad(head, features, images, config, mean=mean, std=std, **schedule)
    losses = teach(head, material, config, on_epoch=on_epoch)
    if isinstance(head, ResidualHead):
        both = (material.held_out_good(), material.held_out_views())
        all_judged = torch.cat([judged(head, one.values) for one in both])
        head.fit_scales(head.of_those(all_judged, shown_by(both)))
    return losses


def shown_by(parts: Sequence[Features]) -> NDArray[np.bool_] | None:
    """Which patches count in the images of several parts, (n, N); None where the same do in all."""
    shown = [part.shown for part in parts if part.shown is not None]
    return np.concatenate(shown) if shown else None


def teach(
    head: Head,
    material: Material,
    config: Config,
    *,
    only: NDArray[np.intp] | None = None,
    on_epoch: OnEpoch | None = None,
) -> list[float]:
    """Teach a head that learns quickly everything but its scales.

    Args:
        head: untrained; of a method that `Config.learns_quickly`.
        material: to learn from.
        config: of the run.
        only: numbers of the training images to learn from; None for all.
        on_epoch: called after some steps of a method that has any.

    Returns:
        The loss of each step; empty for methods without any.
    """
    count = material.count
    of_good = material.sources(np.arange(count))
    head.learn_places(material.good().shown)
    good = _made_of(only, of_good, material.good())
    if isinstance(head, ResidualHead):
        views = material.views()
        of_view = of_good[np.arange(len(views)) % count]
        drawn, drawing = material.drawn(), material.drawing()
        of_drawn = of_good[np.array([drawing.sources(index) for index in range(len(drawn))])]
        return fit_residual(
            head,
            [good, _made_of(only, of_view, views)],
            _made_of(only, of_drawn, drawn),
            config,
            progress=material.progress,
            on_epoch=on_epoch,
        )
    assert isinstance(head, (GaussianHead, PatchCoreHead))
    head.fit(_patch_features(head, good.values), good.shown)
    material.progress("training", 1, 1)
    return []


@torch.inference_mode()
def judged(head: Head, values: NDArray[np.float16], *, chunk: int = 32) -> torch.Tensor:
    """`Head.judge` of cached features (n, N, D): (n, J, N) on the head's device."""
    device = next(head.buffers()).device
    parts = [
        head.judge(torch.from_numpy(np.asarray(values[first : first + chunk])).to(device).float())
        for first in range(0, len(values), chunk)
    ]
    return torch.cat(parts)


def _made_of(
    only: NDArray[np.intp] | None, sources: NDArray[np.intp], features: Features
) -> Features:
    """Those of n images whose sources, (n,) or (n, k) numbers of images, are all among `only`."""
    if only is None:
        return features
    known = np.isin(sources, only)
    return features.some(np.asarray(known if known.ndim == 1 else known.all(axis=1), np.bool_))


class _Schedule(TypedDict):
    """What all methods with epochs take."""

    device: torch.device
    checkpoint: Path | None
    progress: Progress
    on_epoch: OnEpoch | None


def _fit_generalad(
    head: GeneralADHead,
    features: Features,
    config: Config,
    schedule: _Schedule,
    *,
    processes: Processes,
) -> list[float]:
    if head.whitening is not None:
        head.whitening.fit(
            _patch_features(head, features.values),
            counted=head.counted,
            shown=head.which(features.shown),
        )
        features = dataclasses.replace(features, whitening=head.whitening)
    if config.noise_follows_features:
        features = dataclasses.replace(
            features, spread=channel_spread(head.chosen(features.values, features.shown))
        )
    return fit(
        head.discriminator,
        features,
        config,
        processes=processes,
        counted=head.counted,
        **schedule,
    )


def _patch_features(head: Head, values: NDArray[np.float16]) -> NDArray[np.float16]:
    """What `Head.patch_features` makes of cached features, (n, N, dim)."""
    if not head.widths:
        return values
    parts = [
        head.patch_features(torch.from_numpy(values[first : first + 64]).float()).half()
        for first in range(0, len(values), 64)
    ]
    return torch.cat(parts).numpy()
