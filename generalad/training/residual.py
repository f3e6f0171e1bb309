"""How the residual head learns: whitening, memory, and discriminators on drawn defects.

Nothing here looks at test images. The discriminators learn from defects drawn into training
images. The scales of the three judges come from good images that taught nothing, see
`ResidualHead.fit_scales`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from generalad.config import Config
from generalad.model.heads.residual import ResidualHead
from generalad.model.levels import unpack
from generalad.progress import Progress, no_progress
from generalad.training.cache import Features
from generalad.training.loop import EpochEnd, OnEpoch

BATCH = 16
"""Images of a step, half of them good and half with drawn defects."""

STEPS = 600
TOLD = 20
"""Steps after which it is said how far training is."""

LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.05
DROPPED = 0.3
"""Share of input channels that a step does not see, so that none is relied on alone."""

VISIBLE = 0.04
"""A patch of which this share or more changed visibly is a defect; of less, it is left out."""

WINDOW = 16
"""Patches along each side of a tile that a step sees: a tile has more than an image, and a step on
all of them learns no more for its time."""

MOST_IMAGES = 2000
"""Good images that are looked at, at random: more change nothing but the memory that they take."""

_CHUNK = 32


@dataclass(frozen=True)
class Lessons:
    """What discriminators learn from: n good images and views, m images with drawn defects.

    Attributes:
        good: (n, C, h, w) float16, `inputs_of` them.
        counted: (n, h, w) float32, 1 for patches of them that count.
        drawn: (m, C, h, w) float16.
        labels: (m, h, w) float32, 1 for patches with a defect.
        weights: (m, h, w) float32, 0 for patches that teach nothing.
    """

    good: Tensor
    counted: Tensor
    drawn: Tensor
    labels: Tensor
    weights: Tensor


def some_of(count: int, seed: int) -> NDArray[np.bool_]:
    """At most `MOST_IMAGES` of so many, as a mask (count,)."""
    which = np.ones(count, np.bool_)
    which[np.random.default_rng([seed, 6]).permutation(count)[MOST_IMAGES:]] = False
    return which


@torch.no_grad()
def fit_statistics(head: ResidualHead, good: Sequence[Features], seed: int) -> None:
    """Set whitenings and memory from packed features (n, N, D) of good images, and of views."""
    _whiten(head, good)
    _remember(head, good, seed)


def _whiten(head: ResidualHead, good: Sequence[Features]) -> None:
    patches, coarse, sums = [], [], []
    shown = _teach(head, good)
    for part, which in _parts(head, good):
        fine, _, deep = unpack(part, head.widths, head.grid)
        patches.append(head.patch_features(part).half().cpu().numpy())
        coarse.append(head.coarse_patches_of(deep).half().cpu().numpy())
        if which is not None:
            places = F.interpolate(which, scale_factor=2.0, mode="nearest").flatten(1) > 0
            fine = fine.flatten(2).transpose(1, 2)[places].T[None, ..., None]
        sums.append(torch.stack([fine.mean((0, 2, 3)), fine.square().mean((0, 2, 3))]))
    head.whitening.fit(np.concatenate(patches), counted=head.counted, shown=shown)
    head.coarse.fit(
        np.concatenate(coarse),
        counted=None if head.counted is None else _coarse(head, head.counted[None])[0],
        shown=None if shown is None else _coarse(head, torch.from_numpy(shown)).numpy(),
    )
    mean, square = torch.stack(sums).mean(dim=0)
    head.fine_mean.copy_(mean[:, None, None])
    head.fine_scale.copy_((square - mean.square()).clamp(min=1e-6).sqrt()[:, None, None])


def _teach(head: ResidualHead, parts: Sequence[Features]) -> NDArray[np.bool_] | None:
    """Which patches of all images teach, (n, N); None where the same do in all."""
    found = [which for part in parts if (which := head.which(part.shown)) is not None]
    return np.concatenate(found) if found else None


def _coarse(head: ResidualHead, patches: Tensor) -> Tensor:
    """Of patches that count, (n, N) bool, the places of the coarse level that do, (n, N / 4)."""
    return F.max_pool2d(patches.float().reshape(-1, *head.grid), 2).flatten(1) > 0


def _remember(head: ResidualHead, good: Sequence[Features], seed: int) -> None:
    deviations = []
    for part, which in _parts(head, good):
        vectors = head.whitening.deviations(head.patch_features(part))
        chosen = vectors.flatten(0, 1) if which is None else vectors[which.flatten(1) > 0]
        deviations.append(chosen.cpu())
    head.memory.fill(torch.cat(deviations), seed=seed)


def fit_discriminators(
    head: ResidualHead,
    lessons: Lessons,
    config: Config,
    *,
    good: NDArray[np.intp],
    drawn: NDArray[np.intp],
    progress: Progress = no_progress,
    on_epoch: OnEpoch | None = None,
) -> list[float]:
    """Teach the discriminators, each member with its own initial values and dropped channels.

    Args:
        head: untrained.
        lessons: of any images.
        config: of the run.
        good: which of their good images to learn from.
        drawn: which of those with drawn defects.
        progress: told how far it is.
        on_epoch: called after every `TOLD` steps.

    Returns:
        The loss of each step: the sum of the mean cross-entropies of good and defective patches.
    """
    network, device = head.discriminator, head.memory.vectors.device
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
    rng = np.random.default_rng([config.seed, 2])
    random = torch.Generator().manual_seed(config.seed)
    losses, separations = [], torch.zeros((), device=device)
    network.train()
    for step in range(STEPS):
        some = good[rng.integers(len(good), size=BATCH // 2)]
        others = drawn[rng.integers(len(drawn), size=BATCH - len(some))]
        inputs = torch.cat([lessons.good[some], lessons.drawn[others]]).float()
        truth = torch.cat([torch.zeros(len(some), *head.grid), lessons.labels[others]])
        weight = torch.cat([lessons.counted[some], lessons.weights[others]])
        if rng.random() < 0.5:
            inputs, truth, weight = (part.flip(-1) for part in (inputs, truth, weight))
        if config.tiles:
            place = _window(rng, head.grid)
            inputs, truth, weight = (part[place] for part in (inputs, truth, weight))
        kept = (torch.rand(inputs.shape[:2], generator=random) > DROPPED).float()
        kept[:, 2 * head.width : 2 * head.width + 2] = 1 - DROPPED  # the lengths always count
        inputs = (inputs * (kept / (1 - DROPPED))[..., None, None]).to(device)
        inputs = inputs.contiguous(memory_format=torch.channels_last)  # much faster on a CPU
        logits, truth, weight = network.each(inputs), truth.to(device), weight.to(device)
        loss = _loss(logits, truth, weight)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        separations += _separation(logits.detach(), truth, weight)
        progress("training", step + 1, STEPS)
        if on_epoch is not None and (step + 1) % TOLD == 0:
            mean, lr = float(np.mean(losses[-TOLD:])), float(schedule.get_last_lr()[0])
            on_epoch(EpochEnd(step + 1, STEPS, mean, lr, float(separations) / TOLD, unit="step"))
            separations.zero_()
    network.eval()
    return losses


def _window(rng: np.random.Generator, grid: tuple[int, int]) -> tuple[slice | EllipsisType, ...]:
    """A place in the patches of a tile, as large as an image of `edge` at most."""
    starts = [int(rng.integers(max(length - WINDOW, 0) + 1)) for length in grid]
    return (..., *(slice(start, start + WINDOW) for start in starts))


def patch_labels(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (m, h, w), 1 for a defect, and weights (m, h, w), 0 for what is left out.

    Patches beside a defect are left out: features look beyond their own patch.
    """
    labels = (shares >= VISIBLE).float()
    near = F.max_pool2d((shares > 0).float().unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
    return labels, torch.maximum(labels, 1 - near)


def _loss(logits: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Mean over members: defects and good patches are averaged apart and added."""
    truth, weights = (part.unsqueeze(1).expand_as(logits) for part in (truth, weights))
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    defects, rest = weights * truth, weights * (1 - truth)
    return (each * defects).sum() / defects.sum().clamp(min=1) + (each * rest).sum() / rest.sum()


def _separation(logits: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Mean logit of defects minus that of good patches, over all members."""
    truth, weights = (part.unsqueeze(1).expand_as(logits) for part in (truth, weights))
    defects, rest = weights * truth, weights * (1 - truth)
    good = (logits * rest).sum() / rest.sum()
    return (logits * defects).sum() / defects.sum().clamp(min=1) - good


@torch.no_grad()
def inputs_of(head: ResidualHead, parts: Sequence[Features]) -> tuple[Tensor, Tensor]:
    """What discriminators look at, (n, C, h, w) float16, and what of it counts, (n, h, w) float32.

    Both on the CPU.
    """
    inputs, counts = [], []
    for part, which in _parts(head, parts):
        inputs.append(head.measure(part)[2].half().cpu())
        every = torch.ones(len(part), *head.grid)
        counts.append(every if which is None else which[:, 0].cpu())
    return torch.cat(inputs), torch.cat(counts)


def _parts(head: ResidualHead, parts: Sequence[Features]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Features in float32 on the head's device, some images at a time: they may be a memory map.

    With them which patches teach, (B, 1, h, w) 0 or 1; None where all do.
    """
    device, counted = head.memory.vectors.device, head.counted
    for features in parts:
        shown = head.which(features.shown)
        for first in range(0, len(features.values), _CHUNK):
            part = torch.from_numpy(np.asarray(features.values[first : first + _CHUNK]))
            which = None
            if shown is not None:
                which = torch.from_numpy(shown[first : first + _CHUNK]).to(device).float()
            elif counted is not None:
                which = counted.float().expand(len(part), -1)
            placed = None if which is None else which.reshape(-1, 1, *head.grid)
            yield part.to(device).float(), placed
