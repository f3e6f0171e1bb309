"""What the frozen backbone gives: a small discriminator a category, on good pictures alone.

`python -m tools.embedded_backbone.evaluate WEIGHTS --on demo` (or `procedural`, or a folder in the
layout train/good, test/<kind>, ground_truth/<kind>). The last epoch is scored; nothing is chosen by
test pictures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from generalad.config import PRESETS
from generalad.data.synth import CATEGORIES, render_part
from generalad.model.backbone import Backbone, normalise, wrap
from generalad.model.discriminator import Discriminator
from generalad.preprocess import read_image
from generalad.training.distortions import add_noise, distort
from tools.embedded_backbone.generator import draw_episode

Image = NDArray[np.uint8]


PRESET = PRESETS["embedded"]


@dataclass(frozen=True)
class Settings:
    """The values of the `embedded` preset; change one to see what it does."""

    size: int = PRESET.image_size[0]
    layers: tuple[int, ...] = PRESET.layers
    distortions: tuple[str, ...] = PRESET.distortions
    centred: bool = PRESET.centred
    sigma: float = PRESET.noise_std
    top_k: int = PRESET.top_k
    epochs: int = PRESET.epochs
    batch: int = PRESET.batch_size
    hidden: int = PRESET.hidden
    lr: float = PRESET.lr
    smoothing: float = PRESET.smoothing_sigma
    dropout: float = PRESET.dropout


@dataclass(frozen=True)
class Trial:
    """Pictures (n, H, W, 3) uint8 RGB and masks (n, H, W) bool; an empty mask is a good picture."""

    name: str
    train: list[Image]
    test: list[Image]
    masks: list[NDArray[np.bool_]]


def load(weights: Path, settings: Settings) -> Backbone:
    """The frozen backbone for the input size, positions resampled."""
    architecture = json.loads(weights.with_suffix(".json").read_text())["architecture"]
    body = VisionTransformer(**(architecture | {"img_size": settings.size}))
    state = load_file(weights)
    if "norm.1.weight" in state:  # whitened, see whiten.py
        dim = architecture["embed_dim"]
        body.norm = nn.Sequential(body.norm, nn.Linear(dim, dim, bias=False))
    body.load_state_dict(checkpoint_filter_fn(state, body))
    return wrap(body, settings.layers, (settings.size, settings.size))


def extract(backbone: Backbone, pictures: list[Image], size: int) -> Tensor:
    """Features (n, N, D)."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(pictures), 16):
            part = [
                cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA)
                for p in pictures[start : start + 16]
            ]
            found.append(backbone(normalise(torch.from_numpy(np.stack(part)))))
    return torch.cat(found).clone()


def fit(features: Tensor, settings: Settings, seed: int) -> Discriminator:
    """A discriminator trained on clean features, noise everywhere, and each distortion."""
    torch.manual_seed(seed)  # initial weights and dropout
    chance = torch.Generator().manual_seed(seed)
    count, patches, dim = features.shape
    head = Discriminator(
        patches=patches, dim=dim, hidden=settings.hidden, heads=4, blocks=1,
        dropout=settings.dropout,
    ).train()  # fmt: skip
    if settings.centred:
        head.positions.data -= features.mean(dim=(0, 1))
    steps = settings.epochs * (count // settings.batch)
    adam = torch.optim.AdamW(head.parameters(), lr=settings.lr, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, settings.lr * 0.2)
    for _ in range(settings.epochs):
        order = torch.randperm(count, generator=chance)
        for start in range(0, count - settings.batch + 1, settings.batch):
            clean = features[order[start : start + settings.batch]]
            views, marks = [clean, add_noise(clean, settings.sigma, chance)], []
            for name in settings.distortions:
                changed, chosen = distort(
                    name, clean, attention=None, noise_std=settings.sigma,
                    num_fake_patches=-1, generator=chance,
                )  # fmt: skip
                views.append(changed)
                marks.append(chosen)
            with torch.autocast("cpu", torch.bfloat16):
                logits = head(torch.cat(views))
            below, above, *mixed = logits.float().chunk(len(views))
            loss = F.softplus(below).mean() + F.softplus(-above).mean()
            for part, chosen in zip(mixed, marks, strict=True):
                loss = loss + F.softplus(-part[chosen]).mean()
                if (~chosen).any():
                    loss = loss + F.softplus(part[~chosen]).mean()
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
    return head.eval()


def auroc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Area under the ROC curve from ranks; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = int(labels.sum())
    total = ranks[labels].sum() - positive * (positive + 1) / 2
    return float(total / (positive * (len(labels) - positive)))


def judge(logits: Tensor, trial: Trial, settings: Settings) -> tuple[float, float]:
    """Image and pixel AUROC of patch logits (n, N)."""
    labels = np.array([bool(mask.any()) for mask in trial.masks])
    scores = logits.topk(settings.top_k, dim=1).values.mean(dim=1).double().numpy()
    grid = round(logits.shape[1] ** 0.5)
    maps = []
    for row, mask in zip(logits.view(-1, grid, grid).numpy(), trial.masks, strict=True):
        field = cv2.resize(row, (settings.size, settings.size), interpolation=cv2.INTER_LINEAR)
        field = cv2.GaussianBlur(field, (0, 0), settings.smoothing)
        maps.append(cv2.resize(field, mask.shape[::-1], interpolation=cv2.INTER_LINEAR).ravel())
    pixels = np.concatenate(maps).astype(np.float64)
    truth = np.concatenate([mask.ravel() for mask in trial.masks])
    return auroc(scores, labels), auroc(pixels, truth)


def demo_trials(seed: int, good: int, each: int) -> list[Trial]:
    """The demo parts: `good` pictures to train, `each` of each defect and three times that good."""
    trials = []
    for name, category in CATEGORIES.items():
        numbers = iter(range(10**6))

        def part(
            defect: str | None, name: str = name, numbers: object = numbers
        ) -> tuple[Image, Image]:
            rng = np.random.default_rng((seed, next(numbers)))  # type: ignore[call-overload]
            return render_part(name, rng, defect=defect)

        train = [part(None)[0] for _ in range(good)]
        kinds: list[str | None] = [None] * 3 + list(category.defects)
        test = [part(kind) for kind in kinds for _ in range(each)]
        trials.append(Trial(name, train, [p for p, _ in test], [m > 0 for _, m in test]))
    return trials


def procedural_trials(seed: int, count: int) -> list[Trial]:
    """Categories of texture families that training never drew."""
    trials = []
    for index in range(count):
        episode = draw_episode(
            (seed, index), good=70, disturbed=30, side=256, intricate=True, held_out=True
        )
        none = np.zeros_like(episode.masks[:30])
        trials.append(
            Trial(
                f"procedural {index}",
                list(episode.good[:40]),
                [*episode.good[40:], *episode.disturbed],
                [*none, *episode.masks],
            )
        )
    return trials


def folder_trial(folder: Path, good: int) -> Trial:
    """Pictures of a folder; `good` evenly spaced ones train."""
    paths = sorted((folder / "train" / "good").iterdir())
    train = [read_image(paths[i]) for i in np.linspace(0, len(paths) - 1, good).astype(int)]
    test, masks = [], []
    for path in sorted((folder / "test").glob("*/*")):
        picture = cv2.resize(read_image(path), (256, 256), interpolation=cv2.INTER_AREA)
        mask_path = folder / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        mask = np.zeros((256, 256), dtype=bool)
        if path.parent.name != "good":
            whole = read_image(mask_path)[..., 0]
            mask = cv2.resize(whole, (256, 256), interpolation=cv2.INTER_NEAREST) > 0
        test.append(np.asarray(picture, dtype=np.uint8))
        masks.append(mask)
    return Trial(folder.name, train, test, masks)


def evaluate(
    backbone: Backbone, trial: Trial, settings: Settings, seed: int = 0
) -> tuple[float, float]:
    """Train a discriminator on the good pictures and score the test pictures."""
    head = fit(extract(backbone, trial.train, settings.size), settings, seed)
    with torch.inference_mode():
        test = extract(backbone, trial.test, settings.size)
        logits = torch.cat([head(part) for part in torch.split(test, 32)])
    return judge(logits, trial, settings)


def main() -> None:
    """Read the command line, evaluate, and print one line a category."""
    parser = argparse.ArgumentParser(description="Evaluate the embedded backbone.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--on", default="demo", help="demo, procedural, or a folder")
    parser.add_argument("--good", type=int, default=50, help="pictures to train on")
    parser.add_argument("--seed", type=int, default=900)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings()
    if arguments.on == "demo":
        trials = demo_trials(arguments.seed, arguments.good, 12)
    elif arguments.on == "procedural":
        trials = procedural_trials(arguments.seed, 12)
    else:
        trials = [folder_trial(Path(arguments.on), arguments.good)]
    backbone = load(arguments.weights, settings)
    figures = []
    for trial in trials:
        figures.append(evaluate(backbone, trial, settings))
        image, pixel = figures[-1]
        print(f"{trial.name:16s} image AUROC {image:.4f}  pixel AUROC {pixel:.4f}", flush=True)
    print(
        "mean             image AUROC {:.4f}  pixel AUROC {:.4f}".format(*np.mean(figures, axis=0))
    )


if __name__ == "__main__":
    main()
