"""How SimpleNet learns (Liu et al., CVPR 2023, section 3): noise on adapted features, a margin.

Two rates of learning in one optimiser: the discriminator's falls on a cosine, the adaptor's stays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from generalad.config import Config
from generalad.model.heads.simplenet import MARGIN, SimpleNetHead
from generalad.progress import Progress
from generalad.training.cache import Features
from generalad.training.distortions import add_noise
from generalad.training.loop import OnEpoch, batches, learning_rate, run_epochs, seeded

SEEN = 32
"""Images that the unit of the noise is taken from."""

ADAPTOR_LR, ADAPTOR_DECAY = 1e-4, 0.01
"""Of the adaptor, in both published codes; the decay is AdamW's default there."""


def fit_simplenet(
    head: SimpleNetHead,
    features: Features,
    config: Config,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
) -> list[float]:
    """Train adaptor and discriminator in place; arguments, result and errors as `loop.fit`.

    All in float32: the noise is hardly larger than what bfloat16 rounds away.
    """
    optimiser = make_optimiser(head, config)
    noise, separation = noise_of(head, features, config, device), [0.0]

    def epoch(number: int) -> float:
        head.train()
        optimiser.param_groups[0]["lr"] = learning_rate(config, number)
        totals = torch.zeros(2, device=device)
        chosen = batches(len(features), config, number)
        with seeded(config, number, device) as generator:
            for indices in chosen:
                batch, _ = features.batch(indices, device)
                shown = features.batch_shown(indices, device)
                optimiser.zero_grad()
                clean, noisy = clean_and_noisy(head, batch, noise, generator, shown)
                loss = margin_loss(clean, noisy)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                totals += torch.stack([loss, noisy.mean() - clean.mean()]).detach()
        mean, separation[0] = (totals / len(chosen)).tolist()
        return float(mean)

    return run_epochs(
        epoch,
        head,
        optimiser,
        config,
        checkpoint=checkpoint,
        progress=progress,
        on_epoch=on_epoch,
        separation=lambda: separation[0],
    )


def make_optimiser(head: SimpleNetHead, config: Config) -> torch.optim.Optimizer:
    """AdamW with two groups: the discriminator's parameters, then the adaptor's."""
    return torch.optim.AdamW(
        [
            {
                "params": list(head.discriminator.parameters()),
                "lr": config.lr,
                "weight_decay": config.weight_decay,
            },
            {
                "params": list(head.adaptor.parameters()),
                "lr": ADAPTOR_LR,
                "weight_decay": ADAPTOR_DECAY,
            },
        ],
        fused=True,
    )


@torch.no_grad()
def noise_of(
    head: SimpleNetHead, features: Features, config: Config, device: torch.device
) -> float | Tensor:
    """The deviation of the noise: one number, or one for each adapted channel (D,).

    In units of the features it follows what the untrained adaptor makes of some images.
    """
    if not config.noise_follows_features:
        return config.noise_std
    numbers = np.arange(len(features)) if features.numbers is None else features.numbers
    some, _ = features.batch(numbers[:SEEN], device)
    adapted: Tensor = head.adaptor(head.patch_features(some)).flatten(0, 1)
    return config.noise_std * adapted.std(dim=0)


def objective(
    head: SimpleNetHead, features: Tensor, noise_std: float | Tensor, generator: torch.Generator
) -> Tensor:
    """The loss of one batch of clean features (B, N, D), noise as of `noise_of`.

    Clean and noisy patches pass the discriminator at once, so that batch normalisation takes its
    mean and variance over both.
    """
    return margin_loss(*clean_and_noisy(head, features, noise_std, generator))


def clean_and_noisy(
    head: SimpleNetHead,
    features: Tensor,
    noise_std: float | Tensor,
    generator: torch.Generator,
    shown: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scores (B, N) of clean and of noisy patches; arguments as of `objective`.

    With `shown`, (B, N) bool, of those patches alone, in one row (1, M).
    """
    features = head.patch_features(features)
    if shown is not None and head.counted is not None:
        features = features[shown & head.counted].unsqueeze(0)
    elif head.places is not None:
        features = head.places.chosen(features)
    adapted = head.adaptor(features)
    noisy = add_noise(adapted, noise_std, generator)
    clean_scores, noisy_scores = head.discriminator(torch.cat([adapted, noisy])).chunk(2)
    return clean_scores, noisy_scores


def margin_loss(clean: Tensor, noisy: Tensor) -> Tensor:
    """How far scores (B, N) are on the wrong side of the margin; both means are added."""
    return (clean + MARGIN).clamp(min=0).mean() + (MARGIN - noisy).clamp(min=0).mean()
