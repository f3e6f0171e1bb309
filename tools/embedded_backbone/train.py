"""Train the embedded backbone: `python -m tools.embedded_backbone.train --out FOLDER`.

One process draws episodes, one trains. Step `i` sees the episodes with the seeds
(seed, i * EPISODES + 0, 1, ...), so an equal seed gives the same file on the same machine.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from generalad.model.backbone import normalise
from generalad.model.embedded_vit import build_embedded
from generalad.spec import IMAGENET_MEAN, IMAGENET_STD
from tools.embedded_backbone.generator import draw_episode
from tools.embedded_backbone.objective import Objective
from tools.embedded_backbone.whiten import whiten, write

log = logging.getLogger("embedded_backbone")

ARCHITECTURE: dict[str, int] = {"width": 192, "depth": 4, "heads": 3, "features": 64}
SIDE = 128
"""Of the images in pixels. The network knows no positions, so it works at other sizes as well."""
STEPS, WARM_UP, COOL_DOWN = 1300, 100, 0.35
EPISODES, GOOD, DISTURBED = 8, 5, 3
LEARNING_RATE, WEIGHT_DECAY = 1.2e-3, 0.05


class Episodes(Dataset[tuple[Tensor, Tensor, bool]]):
    """Episode number i: images (K, H, W, 3) uint8, masks (K, H, W) bool, aligned."""

    def __init__(self, seed: int, steps: int) -> None:
        self.seed, self.steps = seed, steps

    def __len__(self) -> int:
        return self.steps * EPISODES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, bool]:
        episode = draw_episode(
            (self.seed, index), good=GOOD, disturbed=DISTURBED, side=SIDE,
            intricate=bool(index % 3),
        )  # fmt: skip
        images = np.concatenate([episode.good, episode.disturbed])
        none = np.zeros_like(episode.masks[:1]).repeat(GOOD, axis=0)
        masks = np.concatenate([none, episode.masks])
        return torch.from_numpy(images), torch.from_numpy(masks), episode.aligned


def rate(step: int, steps: int) -> float:
    """Share of the learning rate: a linear start, then level, then straight down to zero."""
    return min((step + 1) / WARM_UP, 1.0, (steps - step) / (steps * COOL_DOWN))


def make_optimisers(model: nn.Module, objective: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [p for n, p in model.named_parameters() if n.startswith("blocks") and p.ndim == 2]
    known = {id(p) for p in matrices}
    others = [p for p in [*model.parameters(), *objective.parameters()] if id(p) not in known]
    muon = torch.optim.Muon(
        matrices, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
    )
    adam = torch.optim.AdamW(
        others, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    return [muon, adam]


def train(seed: int, steps: int) -> VisionTransformer:
    """The trained backbone, in evaluation mode."""
    torch.manual_seed(seed)  # the only global generator, for the initial weights
    model = build_embedded(**ARCHITECTURE, image_size=(SIDE, SIDE)).train()
    for block in model.blocks:
        # On a CPU the written-out form trains faster.
        block.attn.fused_attn = False  # type: ignore[union-attr]
    objective = Objective(ARCHITECTURE["features"], GOOD)
    weights = [*model.parameters(), *objective.parameters()]
    optimisers = make_optimisers(model, objective)
    loader = DataLoader(
        Episodes(seed, steps), EPISODES, num_workers=1, prefetch_factor=6,
        worker_init_fn=lambda _: cv2.setNumThreads(1),
    )  # fmt: skip
    sums: dict[str, float] = {}
    for step, (batch, masks, aligned) in enumerate(loader):
        images = normalise(batch.flatten(0, 1), IMAGENET_MEAN, IMAGENET_STD)
        with torch.autocast("cpu", torch.bfloat16):
            found = model.forward_features(images)
        terms = objective(
            found.float().view(*masks.shape[:2], *found.shape[1:]), images, masks, aligned
        )
        for one in optimisers:
            one.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for one in optimisers:
            for group in one.param_groups:
                group["lr"] = LEARNING_RATE * rate(step, steps)
            one.step()
        report(step + 1, terms, sums)
    return model.eval()


def report(step: int, terms: dict[str, Tensor], sums: dict[str, float]) -> None:
    """Log the mean terms of every fifty steps; `sums` carries them from call to call."""
    for name, term in terms.items():
        sums[name] = sums.get(name, 0.0) + term.item() / 50
    if step % 50 == 0:
        shown = " ".join(f"{name} {value:.4f}" for name, value in sums.items())
        log.info("step %d  %s", step, shown)
        sums.clear()


def main() -> None:
    """Read the command line, train, whiten and write."""
    parser = argparse.ArgumentParser(description="Train the embedded backbone.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    start = time.monotonic()
    model = train(arguments.seed, arguments.steps)
    facts: dict[str, Any] = {
        "architecture": ARCHITECTURE,
        "steps": arguments.steps,
        "images": arguments.steps * EPISODES * (GOOD + DISTURBED),
        "seed": arguments.seed,
        "minutes": round((time.monotonic() - start) / 60, 1),
    }
    whiten(model)
    write(model, facts, arguments.out)


if __name__ == "__main__":
    main()
