"""The one training loop: a fixed schedule over cached features; the last epoch wins."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from generalad.config import Config
from generalad.errors import GadError
from generalad.model.discriminator import Discriminator
from generalad.training.cache import Features, Progress
from generalad.training.checkpoint import load_checkpoint, save_checkpoint
from generalad.training.objective import loss
from generalad.training.precision import autocast, training_dtype

FINAL_LR = 0.2
"""The learning rate falls on a cosine to this part of its start (paper, appendix)."""


def fit(
    discriminator: Discriminator,
    features: Features,
    config: Config,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train `discriminator` in place, going on from `checkpoint` where that file exists.

    A run that was killed and called again ends with the same weights as one that was not.

    Args:
        discriminator: on `device`.
        features: cached features of the training images.
        config: schedule and objective.
        device: where to train.
        checkpoint: written after each epoch.
        progress: called with (epochs done, epochs).

    Returns:
        The mean loss of each epoch.

    Raises:
        GadError: the loss is not finite.
        ArtifactError: the checkpoint is damaged.
    """
    optimiser = torch.optim.AdamW(
        discriminator.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    losses: list[float] = []
    if checkpoint is not None and checkpoint.exists():
        losses = load_checkpoint(checkpoint, discriminator, optimiser)
    for epoch in range(len(losses), config.epochs):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, epoch)
        losses.append(_epoch(discriminator, features, config, optimiser, epoch, device))
        if not math.isfinite(losses[-1]):
            raise GadError(
                f"the loss became {losses[-1]} in epoch {epoch + 1}",
                remedy="lower lr, or check the weights of the backbone",
            )
        if checkpoint is not None:
            save_checkpoint(checkpoint, discriminator, optimiser, losses)
        if progress is not None:
            progress(epoch + 1, config.epochs)
    discriminator.eval()
    return losses


def learning_rate(config: Config, epoch: int) -> float:
    """The rate in `epoch`, counted from 0."""
    cosine = (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    return config.lr * (FINAL_LR + (1 - FINAL_LR) * cosine)


def _epoch(
    discriminator: Discriminator,
    features: Features,
    config: Config,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    device: torch.device,
) -> float:
    discriminator.train()
    order = np.random.default_rng([config.seed, epoch]).permutation(len(features))
    size = min(config.batch_size, len(features))
    dtype = training_dtype(device)
    total = torch.zeros((), device=device)
    steps = len(features) // size  # an incomplete last batch is dropped
    # Dropout draws from torch's global generator, so it is seeded inside a fork that leaves the
    # caller's generators as they were; all other chance comes from the generator of this epoch.
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        seeds = np.random.SeedSequence([config.seed, epoch]).generate_state(2)
        torch.manual_seed(int(seeds[0]))
        generator = torch.Generator(device).manual_seed(int(seeds[1]))
        for step in range(steps):
            batch, attention = features.batch(order[step * size : (step + 1) * size], device)
            with autocast(device, dtype):
                value = loss(discriminator, batch, attention, config, generator)
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += value.detach()
    return float(total) / steps
