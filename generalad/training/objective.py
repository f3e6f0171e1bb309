"""The training objective (paper, section 3.3): a sum of cross-entropies over views of one batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from generalad.config import Config
from generalad.model.discriminator import Discriminator
from generalad.training.distortions import add_noise, distort


def loss(
    discriminator: Discriminator,
    features: Tensor,
    attention: Tensor | None,
    config: Config,
    generator: torch.Generator,
) -> Tensor:
    """The objective on one batch, as a scalar.

    Clean patches are labelled normal, patches with noise everywhere anomalous; each further
    distortion labels the patches it chose, and its two groups are averaged apart and added. All
    views pass the discriminator at once.

    Args:
        discriminator: in training mode.
        features: (B, N, D) clean patch features.
        attention: (B, heads, N) or None.
        config: names the distortions.
        generator: source of all noise and choices, on the device of `features`.
    """
    nothing = torch.zeros(features.shape[:2], dtype=torch.bool, device=features.device)
    views = [
        (features, nothing),
        (add_noise(features, config.noise_std, generator), ~nothing),
    ]
    for name in config.distortions:
        views.append(
            distort(
                name,
                features,
                attention=attention,
                noise_std=config.noise_std,
                num_fake_patches=config.num_fake_patches,
                generator=generator,
            )
        )
    logits = discriminator(torch.cat([view for view, _ in views])).float().chunk(len(views))
    terms = [grouped_loss(part, labels) for part, (_, labels) in zip(logits, views, strict=True)]
    return torch.stack(terms).sum()


def grouped_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy, averaged apart over the two labels and added; an empty group adds 0.

    Args:
        logits: (B, N).
        labels: (B, N) bool, True for anomalous.
    """
    each = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
    anomalous = labels.float()
    normal = 1 - anomalous
    return (each * anomalous).sum() / anomalous.sum().clamp(min=1) + (
        each * normal
    ).sum() / normal.sum().clamp(min=1)
