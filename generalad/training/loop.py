"""The one training loop: a fixed schedule over the training images; the last epoch wins."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from generalad.config import Config
from generalad.errors import GadError
from generalad.model.discriminator import Discriminator
from generalad.progress import Progress
from generalad.training.cache import Features
from generalad.training.checkpoint import load_checkpoint, save_checkpoint
from generalad.training.processes import ALONE, Processes
from generalad.training.step import Step


@dataclass(frozen=True)
class EpochEnd:
    """What is known when an epoch has ended, before its checkpoint is written.

    Attributes:
        number: of the epoch, from 1.
        epochs: of the whole schedule.
        loss: mean of the epoch.
        lr: learning rate of the epoch.
        separation: mean logit of distorted patches minus that of clean ones over the epoch; None
            for methods without such patches.
        unit: what `number` and `epochs` count; "step" for a method without epochs, which tells of
            every so many steps.
    """

    number: int
    epochs: int
    loss: float
    lr: float
    separation: float | None = None
    unit: str = "epoch"


OnEpoch = Callable[[EpochEnd], None]
"""Called in the training process after each epoch. After a kill it may hear of one epoch twice."""


def fit(
    discriminator: Discriminator,
    features: Features,
    config: Config,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
    processes: Processes = ALONE,
    dtype: torch.dtype | None = None,
    counted: Tensor | None = None,
) -> list[float]:
    """Train GeneralAD's `discriminator` in place, going on from `checkpoint` where it exists.

    Args:
        discriminator: on `device`.
        features: cached features of the training images.
        config: schedule and objective.
        device: where to train.
        checkpoint: written after each epoch.
        progress: called with ("training", epochs done, epochs).
        on_epoch: called after each epoch.
        processes: that train it together.
        dtype: of the step; default `training_dtype(device)`.
        counted: (N,) bool, the patches that count; None for all.

    Returns:
        The mean loss of each epoch.

    Raises:
        GadError: the loss is not finite.
        ArtifactError: the checkpoint is damaged.
    """
    optimiser = torch.optim.AdamW(
        discriminator.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    step = Step(
        discriminator,
        config,
        device,
        dtype=dtype,
        spread=features.spread,
        counted=counted,
        processes=processes,
    )

    def epoch(number: int) -> float:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, number)
        return _epoch(step, features, optimiser, number)

    return run_epochs(
        epoch,
        discriminator,
        optimiser,
        config,
        checkpoint=checkpoint,
        progress=progress,
        on_epoch=on_epoch,
        separation=step.separation,
        processes=processes,
    )


def run_epochs(
    epoch: Callable[[int], float],
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    config: Config,
    *,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
    separation: Callable[[], float | None] = lambda: None,
    processes: Processes = ALONE,
) -> list[float]:
    """Run a fixed number of epochs; a run that was killed and called again ends the same.

    Args:
        epoch: trains through one epoch, counted from 0, and returns its mean loss.
        model: what is trained; in evaluation mode afterwards.
        optimiser: of its parameters.
        config: of the run.
        checkpoint: written after each epoch, and gone on from where it exists.
        progress: called with ("training", epochs done, epochs).
        on_epoch: called after each epoch, before its checkpoint is written.
        separation: of clean and distorted patches in the epoch that ended, see `EpochEnd`.
        processes: of which the first writes the checkpoint.

    Returns:
        The mean loss of each epoch.

    Raises:
        GadError: the loss is not finite.
        ArtifactError: the checkpoint is damaged.
    """
    losses: list[float] = []
    if checkpoint is not None and checkpoint.exists():
        losses = load_checkpoint(checkpoint, model, optimiser)
    for number in range(len(losses), config.epochs):
        losses.append(epoch(number))
        if not math.isfinite(losses[-1]):
            raise GadError(
                f"the loss became {losses[-1]} in epoch {number + 1}",
                remedy="lower lr, or check the weights of the backbone",
            )
        if on_epoch is not None:
            lr = float(optimiser.param_groups[0]["lr"])
            on_epoch(EpochEnd(number + 1, config.epochs, losses[-1], lr, separation()))
        if checkpoint is not None and processes.first:
            save_checkpoint(checkpoint, model, optimiser, losses)
        if progress is not None:
            progress("training", number + 1, config.epochs)
    model.eval()
    return losses


def learning_rate(config: Config, epoch: int) -> float:
    """The rate in `epoch`, counted from 0."""
    cosine = (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    return config.lr * (config.lr_decay_factor + (1 - config.lr_decay_factor) * cosine)


def batches(count: int, config: Config, epoch: int) -> list[NDArray[np.int64]]:
    """Which of `count` images each step of an epoch sees; an incomplete last batch is dropped."""
    order = epoch_order(count, config, epoch)
    size = min(config.batch_size, len(order))
    return [order[first : first + size] for first in range(0, len(order) - size + 1, size)]


def epoch_order(count: int, config: Config, epoch: int) -> NDArray[np.int64]:
    """The images of an epoch, all `count` or `epoch_images` of them, in a random order."""
    order = np.random.default_rng([config.seed, epoch]).permutation(count)
    return order[: config.epoch_images] if config.epoch_images else order


def images_seen(count: int, config: Config) -> NDArray[np.int64]:
    """Which of `count` images the whole schedule sees, in order; only these need features."""
    if not 0 < config.epoch_images < count:
        return np.arange(count)
    orders = [epoch_order(count, config, epoch) for epoch in range(config.epochs)]
    return np.unique(np.concatenate(orders))


@contextlib.contextmanager
def seeded(config: Config, epoch: int, device: torch.device) -> Iterator[torch.Generator]:
    """The chance of one epoch, from the seed and its number alone.

    Dropout draws from torch's global generator, so it is seeded inside a fork that leaves the
    caller's generators as they were; all other chance comes from the generator that is yielded.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seeds = np.random.SeedSequence([config.seed, epoch]).generate_state(2)
        torch.manual_seed(int(seeds[0]))
        yield torch.Generator(device).manual_seed(int(seeds[1]))


def _epoch(step: Step, features: Features, optimiser: torch.optim.Optimizer, epoch: int) -> float:
    step.discriminator.train()
    total = torch.zeros((), device=step.device)
    chosen = batches(len(features), step.config, epoch)
    with seeded(step.config, epoch, step.device) as generator:
        if step.device.type == "cuda" and step.processes.rank:  # or all would drop out alike
            torch.cuda.manual_seed(torch.initial_seed() + step.processes.rank)
        for indices in chosen:
            batch, attention = features.batch(indices, step.device)
            optimiser.zero_grad()
            counted = features.batch_shown(indices, step.device)
            total += step(batch, attention, generator, counted)
            optimiser.step()
    return float(total) / len(chosen)
