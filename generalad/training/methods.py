"""How each method learns from cached features: what lies between the cache and calibration."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from generalad.config import Config
from generalad.model.heads import GaussianHead, GeneralADHead, Head, PatchCoreHead
from generalad.progress import Progress
from generalad.training.cache import Features
from generalad.training.loop import fit


def fit_head(
    head: Head,
    features: Features,
    config: Config,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Teach a head what good patches look like, in place.

    Args:
        head: untrained, on `device`.
        features: of the good training images.
        config: of the run.
        device: where to compute.
        checkpoint: where a method that takes long keeps its state.
        progress: told how far it is.

    Returns:
        The mean loss of each epoch; empty for methods without epochs.
    """
    if isinstance(head, GeneralADHead):
        if head.whitening is not None:
            head.whitening.fit(features.values)
            features = dataclasses.replace(features, whitening=head.whitening)
        return fit(
            head.discriminator,
            features,
            config,
            device=device,
            checkpoint=checkpoint,
            progress=progress,
        )
    assert isinstance(head, (GaussianHead, PatchCoreHead))
    head.fit(features.values)
    if progress is not None:
        progress("training", 1, 1)
    return []
