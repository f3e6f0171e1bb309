"""The training objective (paper, section 3.3): a sum of cross-entropies over views of one batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from generalad.config import Config
from generalad.training.distortions import add_noise, distort


def views(
    features: Tensor, attention: Tensor | None, config: Config, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """What the discriminator is shown of one batch, view by view.

    Clean patches are labelled normal, patches with noise everywhere anomalous; each further
    distortion labels the patches it chose.

    Args:
        features: (B, N, D) clean patch features.
        attention: (B, heads, N) or None.
        config: names the distortions.
        generator: source of all noise and choices, on the device of `features`.

    Yields:
        Features (B, N, D) and labels (B, N) bool, True for anomalous.
    """
    nothing = torch.zeros(features.shape[:2], dtype=torch.bool, device=features.device)
    yield features, nothing
    yield add_noise(features, config.noise_std, generator), ~nothing
    for name in config.distortions:
        yield distort(
            name,
            features,
            attention=attention,
            noise_std=config.noise_std,
            num_fake_patches=config.num_fake_patches,
            generator=generator,
        )


def group_weights(labels: Tensor) -> Tensor:
    """One over the number of patches with the same label, for each of a view's patches.

    With them, the two groups of a view are averaged apart and added; an empty group adds 0.

    Args:
        labels: (B, N) bool.

    Returns:
        (B, N) float32.
    """
    anomalous = labels.sum().clamp(min=1)
    normal = (~labels).sum().clamp(min=1)
    return torch.where(labels, 1 / anomalous, 1 / normal)


def weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Sum of weighted binary cross-entropies; all (B, N), labels True for anomalous."""
    return F.binary_cross_entropy_with_logits(
        logits, labels.float(), weight=weights, reduction="sum"
    )
