"""How the student of KDAD learns: it sees images, the teacher's features come from the cache."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from generalad.config import Config
from generalad.model.backbone import Channels, normalise
from generalad.model.heads.kdad import KDADHead, squared_difference
from generalad.progress import Progress, no_progress
from generalad.training.cache import Features
from generalad.training.images import Images
from generalad.training.loop import OnEpoch, batches, run_epochs, seeded
from generalad.training.precision import autocast, training_dtype
from generalad.training.step import PATCHES

MILESTONES, GAMMA = (10, 20), 0.5
"""After so many epochs the learning rate is multiplied by that; ten epochs never get there."""


def fit_kdad(
    head: KDADHead,
    features: Features,
    images: Images,
    config: Config,
    *,
    mean: Channels,
    std: Channels,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress = no_progress,
    on_epoch: OnEpoch | None = None,
    dtype: torch.dtype | None = None,
) -> list[float]:
    """Train the student in place; the rest of arguments, result and errors as `loop.fit`.

    Args:
        head: on `device`.
        features: cached features of the training images.
        images: the same images.
        config: schedule.
        mean: of the backbone's input.
        std: of the backbone's input.
        device: where to train.
        checkpoint: written after each epoch.
        progress: called with ("training", steps done, steps).
        on_epoch: called after each epoch.
        dtype: of the student's products; default `training_dtype(device)`.
    """
    optimiser = make_optimiser(head, config)
    dtype = training_dtype(device) if dtype is None else dtype

    def epoch(number: int) -> float:
        head.train()
        optimiser.param_groups[0]["lr"] = learning_rate(config, number)
        total = torch.zeros((), device=device)
        chosen = batches(len(features), config, number)
        with seeded(config, number, device):
            for step, indices in enumerate(chosen):
                batch = images.batch(indices, device)
                pixels = normalise(batch, mean, std)
                if head.places is not None:
                    pixels = head.places.blank(pixels, head.places.inside(batch))
                teacher, _ = features.batch(indices, device)
                shown = features.batch_shown(indices, device)
                optimiser.zero_grad()
                total += add_gradients(head, teacher, pixels, dtype, shown)
                optimiser.step()
                progress("training", number * len(chosen) + step + 1, config.epochs * len(chosen))
        return float(total) / len(chosen)

    return run_epochs(epoch, head, optimiser, config, checkpoint=checkpoint, on_epoch=on_epoch)


def make_optimiser(head: KDADHead, config: Config) -> torch.optim.Optimizer:
    """AdamW over the student's parameters."""
    return torch.optim.AdamW(
        head.student.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )


def learning_rate(config: Config, epoch: int) -> float:
    """The rate in `epoch`, counted from 0."""
    return config.lr * GAMMA ** sum(epoch >= milestone for milestone in MILESTONES)


def add_gradients(
    head: KDADHead,
    teacher: Tensor,
    images: Tensor,
    dtype: torch.dtype,
    shown: Tensor | None = None,
) -> Tensor:
    """Add the gradients of one batch to those of the student; returns its loss without a graph.

    The loss is a mean over images, so on a CPU they pass in parts whose gradients add up: attention
    with dropout is not fused there and would take much memory.

    Args:
        head: in training mode.
        teacher: features (B, N, D).
        images: normalised (B, 3, H, W).
        dtype: to compute in.
        shown: (B, N) bool, the patches that each image shows; None for all.
    """
    size = len(images)
    if images.device.type == "cpu":
        size = max(1, PATCHES // head.patches)
    total = torch.zeros((), device=images.device)
    for first in range(0, len(images), size):
        part = slice(first, first + size)
        with autocast(images.device, dtype):
            predicted = head.student(images[part])
        difference = squared_difference(predicted, head.patch_features(teacher[part]))
        share = len(difference) / len(images)
        if shown is not None and head.counted is not None:
            difference = difference[shown[part] & head.counted]
        elif head.places is not None:
            difference = head.places.chosen(difference)
        loss = difference.mean() * share
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total
