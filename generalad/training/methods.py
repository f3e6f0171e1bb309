"""How each method learns: `fit_head`, and `teacher` for those that learn quickly."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from generalad.config import Config
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
from generalad.training.cache import Features, channel_spread
from generalad.training.cross_fit import CrossFit
from generalad.training.kdad import fit_kdad
from generalad.training.loop import OnEpoch, fit
from generalad.training.material import Material
from generalad.training.processes import Processes
from generalad.training.simplenet import fit_simplenet


def fit_head(
    head: Head,
    material: Material,
    config: Config,
    *,
    device: torch.device,
    groups: Sequence[int] = (),
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> list[float]:
    """Teach a head what good images look like, in place, and set its scales on held-out ones.

    Args:
        head: untrained, on `device`.
        material: to learn from.
        config: of the run.
        device: where to compute.
        groups: (n,) a number for the group of each training image, for methods that learn quickly.
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
    if material.geometry is not None and not config.learns_quickly:
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
    teach = teacher(material, groups)
    losses = teach(head, None, progress=material.progress, on_epoch=on_epoch)
    if isinstance(head, ResidualHead):
        both = (material.held_out_good(), material.held_out_views())
        all_judged = torch.cat([judged(head, one.values) for one in both])
        head.fit_scales(head.of_those(all_judged, shown_by(both)))
    return losses


def shown_by(parts: Sequence[Features]) -> NDArray[np.bool_] | None:
    """Which patches count in the images of several parts, (n, N); None where the same do in all."""
    shown = [part.shown for part in parts if part.shown is not None]
    return np.concatenate(shown) if shown else None


class Teacher(Protocol):
    """Teaches a head that learns quickly everything but its scales; see `teacher`."""

    def __call__(
        self,
        head: Head,
        only: NDArray[np.intp] | None,
        *,
        progress: Progress,
        on_epoch: OnEpoch | None = None,
    ) -> list[float]:
        """The loss of each step; empty for methods without any.

        Args:
            head: untrained.
            only: numbers of the training images to learn from: all but those of a fold, as
                `deal_folds` deals them out. None for all.
            progress: told how far it is.
            on_epoch: called after some steps of a method that has any.
        """


def teacher(material: Material, groups: Sequence[int]) -> Teacher:
    """How heads of a method that `Config.learns_quickly` are taught.

    Args:
        material: to learn from.
        groups: (n,) a number for the group of each training image.

    Raises:
        DataError: one group only.
    """
    if material.config.method == "residual":
        return CrossFit(material, groups)
    return functools.partial(_fit_reference, material)


def _fit_reference(
    material: Material,
    head: Head,
    only: NDArray[np.intp] | None,
    *,
    progress: Progress,
    on_epoch: OnEpoch | None = None,
) -> list[float]:
    good = material.good()
    head.learn_places(good.shown)
    if only is not None:
        good = good.some(np.isin(material.sources(np.arange(material.count)), only))
    assert isinstance(head, (GaussianHead, PatchCoreHead))
    head.fit(patch_features_of(head, good.values), good.shown)
    progress("training", 1, 1)
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
            patch_features_of(head, features.values),
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


def patch_features_of(head: Head, values: NDArray[np.float16]) -> NDArray[np.float16]:
    """What `Head.patch_features` makes of cached features (n, N, D): (n, N, D')."""
    if not head.widths:
        return values
    parts = [
        head.patch_features(torch.from_numpy(values[first : first + 64]).float()).half()
        for first in range(0, len(values), 64)
    ]
    return torch.cat(parts).numpy()
