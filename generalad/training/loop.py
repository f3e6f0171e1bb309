"""The one training loop: a fixed schedule over cached features; the last epoch wins."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from generalad.config import Config
from generalad.errors import GadError
from generalad.model.discriminator import Discriminator
from generalad.progress import Progress
from generalad.training.cache import Features
from generalad.training.checkpoint import load_checkpoint, save_checkpoint
from generalad.training.step import Step


def fit(
    discriminator: Discriminator,
    features: Features,
    config: Config,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    dtype: torch.dtype | None = None,
) -> list[float]:
    """Train `discriminator` in place, going on from `checkpoint` where that file exists.

    A run that was killed and called again ends with the same weights as one that was not.

    Args:
        discriminator: on `device`.
        features: cached features of the training images.
        config: schedule and objective.
        device: where to train.
        checkpoint: written after each epoch.
        progress: called with ("training", epochs done, epochs).
        dtype: of the step; default `training_dtype(device)`.

    Returns:
        The mean loss of each epoch.

    Raises:
        GadError: the loss is not finite.
        ArtifactError: the checkpoint is damaged.
    """
    optimiser = torch.optim.AdamW(
        discriminator.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    step = Step(discriminator, config, device, dtype=dtype, spread=features.spread)
    losses: list[float] = []
    if checkpoint is not None and checkpoint.exists():
        losses = load_checkpoint(checkpoint, discriminator, optimiser)
    for epoch in range(len(losses), config.epochs):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, epoch)
        losses.append(_epoch(step, features, optimiser, epoch))
        if not math.isfinite(losses[-1]):
            raise GadError(
                f"the loss became {losses[-1]} in epoch {epoch + 1}",
                remedy="lower lr, or check the weights of the backbone",
            )
        if checkpoint is not None:
            save_checkpoint(checkpoint, discriminator, optimiser, losses)
        if progress is not None:
            progress("training", epoch + 1, config.epochs)
    discriminator.eval()
    return losses


def learning_rate(config: Config, epoch: int) -> float:
    """The rate in `epoch`, counted from 0."""
    cosine = (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    return config.lr * (config.lr_decay_factor + (1 - config.lr_decay_factor) * cosine)


def _epoch(step: Step, features: Features, optimiser: torch.optim.Optimizer, epoch: int) -> float:
    step.discriminator.train()
    config, device = step.config, step.device
    order = np.random.default_rng([config.seed, epoch]).permutation(len(features))
    size = min(config.batch_size, len(features))
    total = torch.zeros((), device=device)
    count = len(features) // size  # an incomplete last batch is dropped
    # Dropout draws from torch's global generator, so it is seeded inside a fork that leaves the
    # caller's generators as they were; all other chance comes from the generator of this epoch.
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        seeds = np.random.SeedSequence([config.seed, epoch]).generate_state(2)
        torch.manual_seed(int(seeds[0]))
        generator = torch.Generator(device).manual_seed(int(seeds[1]))
        for index in range(count):
            batch, attention = features.batch(order[index * size : (index + 1) * size], device)
            optimiser.zero_grad()
            total += step(batch, attention, generator)
            optimiser.step()
    return float(total) / count
