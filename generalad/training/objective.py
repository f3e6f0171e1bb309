"""The training objective (paper, section 3.3): a sum of cross-entropies over views of one batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from generalad.config import Config
from generalad.model.heads.simplenet import MARGIN
from generalad.training.distortions import add_noise, distort

NEAR_CHANCE = 0.95
"""Part of `chance_loss` from which on a discriminator has learned next to nothing."""


def views(
    features: Tensor,
    attention: Tensor | None,
    config: Config,
    generator: torch.Generator,
    spread: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """What the discriminator is shown of one batch, view by view.

    Clean patches are labelled normal, patches with noise everywhere anomalous; each further
    distortion labels the patches it chose.

    Args:
        features: (B, N, D) clean patch features.
        attention: (B, heads, N) or None.
        config: names the distortions.
        generator: source of all noise and choices, on the device of `features`.
        spread: (D,) unit of the noise in each channel; None for 1.

    Yields:
        Features (B, N, D) and labels (B, N) bool, True for anomalous.
    """
    nothing = torch.zeros(features.shape[:2], dtype=torch.bool, device=features.device)
    noise_std = config.noise_std if spread is None else config.noise_std * spread
    yield features, nothing
    yield add_noise(features, noise_std, generator), ~nothing
    for name in config.distortions:
        yield distort(
            name,
            features,
            attention=attention,
            noise_std=noise_std,
            num_fake_patches=config.num_fake_patches,
            generator=generator,
        )


def chance_loss(config: Config) -> float:
    """The objective of a discriminator that answers 0 everywhere.

    For GeneralAD ln 2 for each group of patches: the clean and the noisy view are one group each,
    views of further distortions two. For SimpleNet the margin, twice.
    """
    if config.method == "simplenet":
        return 2 * MARGIN
    return (2 + 2 * len(config.distortions)) * math.log(2)


def chance_warning(losses: Sequence[float], config: Config) -> str:
    """What to say of a schedule that ended with these losses; "" where it learned something."""
    chance = chance_loss(config)
    if not losses or losses[-1] < NEAR_CHANCE * chance:
        return ""
    if config.noise_follows_features or config.whitened:
        noise = f"raise noise_std (now {config.noise_std:g} of the features' spread)"
    else:
        noise = f'set noise_units = "features" (now noise_std is {config.noise_std:g}, absolute)'
    return (
        f"the loss ended at {losses[-1]:.3f}, and guessing gives {chance:.3f}: the discriminator"
        f" cannot tell distorted features from good ones → {noise}, train for more epochs, or check"
        " that the weights are those of the backbone"
    )


def group_weights(labels: Tensor, counted: Tensor | None = None) -> Tensor:
    """One over the number of patches with the same label, for each of a view's patches.

    With them, the two groups of a view are averaged apart and added; an empty group adds 0.

    Args:
        labels: (B, N) bool.
        counted: (N,) or (B, N) bool, the patches that count; None for all. The others weigh
            nothing.

    Returns:
        (B, N) float32.
    """
    if counted is not None:
        weights = [
            group / group.sum().clamp(min=1) for group in (labels & counted, ~labels & counted)
        ]
        return weights[0] + weights[1]
    anomalous = labels.sum().clamp(min=1)
    normal = (~labels).sum().clamp(min=1)
    return torch.where(labels, 1 / anomalous, 1 / normal)


def weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Sum of weighted binary cross-entropies; all (B, N), labels True for anomalous."""
    return F.binary_cross_entropy_with_logits(
        logits, labels.float(), weight=weights, reduction="sum"
    )
