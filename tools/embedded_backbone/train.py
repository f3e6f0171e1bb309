"""Train the embedded backbone: `python -m tools.embedded_backbone.train --out FOLDER`.

One process draws episodes, one trains, one thread each. Step `i` sees the episodes with the seeds
(seed, i * EPISODES + 0, 1, ...), so an equal seed gives the same file on the same machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from tools.embedded_backbone.generator import draw_episode
from tools.embedded_backbone.objective import Objective, patch_labels

log = logging.getLogger("embedded_backbone")

ARCHITECTURE: dict[str, Any] = {
    "img_size": 128,
    "patch_size": 8,
    "embed_dim": 192,
    "depth": 5,
    "num_heads": 3,
    "num_classes": 0,
    "class_token": False,
    "global_pool": "",
}
LAYERS = (3, 5)  # 1-based; where the objective, and later the detector, reads
EPISODES, GOOD, DISTURBED = 4, 3, 3
LEARNING_RATE, WEIGHT_DECAY = 1.2e-3, 0.05
SCALE = 4.0
"""Of the features in the file. The discriminator adds learned positions of unit variance; features
of the same size drown in them for the first hundreds of steps."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Stage:
    """A stretch of training.

    Attributes:
        side: of the pictures in pixels.
        steps: its length.
        warm_up: steps over which the learning rate rises.
        intricate: see `draw_episode`.
        picture_weight: see `Objective`.
        cool: whether the learning rate falls to zero.
    """

    side: int
    steps: int
    warm_up: int
    intricate: bool
    picture_weight: float
    cool: bool


STAGES = (
    Stage(side=128, steps=1800, warm_up=200, intricate=False, picture_weight=0.0, cool=False),
    Stage(side=128, steps=1100, warm_up=50, intricate=True, picture_weight=0.2, cool=False),
    Stage(side=192, steps=380, warm_up=30, intricate=True, picture_weight=0.2, cool=True),
)


class Episodes(Dataset[tuple[Tensor, Tensor, bool]]):
    """Episode number i: pictures (K, H, W, 3) uint8, masks (K, H, W) bool, aligned."""

    def __init__(self, seed: int, first: int, stage: Stage) -> None:
        self.seed, self.first, self.stage = seed, first, stage

    def __len__(self) -> int:
        return self.stage.steps * EPISODES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, bool]:
        episode = draw_episode(
            (self.seed, self.first + index), good=GOOD, disturbed=DISTURBED,
            side=self.stage.side, intricate=self.stage.intricate,
        )  # fmt: skip
        pictures = np.concatenate([episode.good, episode.disturbed])
        none = np.zeros_like(episode.masks[:1]).repeat(GOOD, axis=0)
        masks = np.concatenate([none, episode.masks])
        return torch.from_numpy(pictures), torch.from_numpy(masks), episode.aligned


def build(side: int) -> VisionTransformer:
    """The untrained backbone; its final LayerNorm stays plain, so features have unit scale."""
    model = VisionTransformer(**(ARCHITECTURE | {"img_size": side}))
    model.norm.requires_grad_(False)
    for block in model.blocks:
        # On a CPU the written-out form trains faster.
        block.attn.fused_attn = False  # type: ignore[union-attr]
    return model


def normalise(pictures: Tensor) -> Tensor:
    """(..., H, W, 3) uint8 to (B, 3, H, W) float32."""
    flat = pictures.flatten(0, -4).permute(0, 3, 1, 2).float() / 255
    return (flat - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def features(model: VisionTransformer, images: Tensor) -> list[Tensor]:
    """For each of `LAYERS`, patch features (B, N, D) after the final LayerNorm."""
    indices = [layer - 1 for layer in LAYERS]
    found = model.forward_intermediates(
        images, indices=indices, norm=True, output_fmt="NLC", intermediates_only=True
    )
    return [layer.float() for layer in found]  # type: ignore[union-attr]


def rate(step: int, stage: Stage) -> float:
    """Share of the learning rate: a linear start, then level, or straight down to zero."""
    left = (stage.steps - step) / stage.steps if stage.cool else 1.0
    return min((step + 1) / stage.warm_up, left)


def make_optimisers(
    model: torch.nn.Module, objective: torch.nn.Module
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [p for n, p in model.named_parameters() if n.startswith("blocks") and p.ndim == 2]
    known = {id(p) for p in matrices}
    rest = [p for p in [*model.parameters(), *objective.parameters()] if p.requires_grad]
    muon = torch.optim.Muon(
        matrices, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
    )
    others = [p for p in rest if id(p) not in known]
    adam = torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    return [muon, adam]


def train(number: int, seed: int, out: Path) -> VisionTransformer:
    """Train stage `number`, from where the stage before left off; both live in `out`."""
    stage = STAGES[number]
    torch.manual_seed(seed)  # the only global generator, for the initial weights
    model, patch = build(stage.side).train(), int(ARCHITECTURE["patch_size"])
    objective = Objective(
        int(ARCHITECTURE["embed_dim"]), len(LAYERS), grid=stage.side // patch, patch=patch,
        pictures=GOOD + DISTURBED, good=GOOD, picture_weight=stage.picture_weight,
    )  # fmt: skip
    if number > 0:
        before, heads = torch.load(out / f"stage{number - 1}.pt", weights_only=True)
        model.load_state_dict(checkpoint_filter_fn(before, model))
        objective.load_state_dict(heads)
    weights = [p for p in [*model.parameters(), *objective.parameters()] if p.requires_grad]
    optimisers = make_optimisers(model, objective)
    schedules = [LambdaLR(one, lambda step: rate(step, stage)) for one in optimisers]
    first = sum(earlier.steps for earlier in STAGES[:number]) * EPISODES
    loader = DataLoader(
        Episodes(seed, first, stage), EPISODES, num_workers=1, prefetch_factor=8,
        worker_init_fn=lambda _: cv2.setNumThreads(1),
    )  # fmt: skip
    sums: dict[str, float] = {}
    for step, (pictures, masks, aligned) in enumerate(loader, start=1):
        terms = losses(model, objective, pictures, masks, aligned)
        for one in optimisers:
            one.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for one, schedule in zip(optimisers, schedules, strict=True):
            one.step()
            schedule.step()
        report(step, terms, sums)
        if step % 200 == 0:
            write(model, out / "checkpoint.safetensors")
    torch.save((model.state_dict(), objective.state_dict()), out / f"stage{number}.pt")
    return model


def report(step: int, terms: dict[str, Tensor], sums: dict[str, float]) -> None:
    """Log the mean terms of every fifty steps; `sums` carries them from call to call."""
    for name, term in terms.items():
        sums[name] = sums.get(name, 0.0) + term.item() / 50
    if step % 50 == 0:
        shown = " ".join(f"{name} {value:.4f}" for name, value in sums.items())
        log.info("step %d  %s", step, shown)
        sums.clear()


def losses(
    model: VisionTransformer, objective: Objective, pictures: Tensor, masks: Tensor, aligned: Tensor
) -> dict[str, Tensor]:
    """Loss terms of a batch of `EPISODES` episodes."""
    images = normalise(pictures)
    labels = patch_labels(masks.flatten(0, 1), int(ARCHITECTURE["patch_size"]))
    with torch.autocast("cpu", torch.bfloat16):
        found = features(model, images)
    split = [layer.reshape(EPISODES, -1, *layer.shape[1:]) for layer in found]
    labels = labels.reshape(EPISODES, -1, labels.shape[1])
    terms: dict[str, Tensor] = objective(split, images, labels, aligned)
    return terms


def write(model: VisionTransformer, path: Path) -> str:
    """Write the weights as float16, features scaled, and return the sha256 of the file."""
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    state["norm.weight"].fill_(SCALE)
    save_file(state, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the embedded backbone.")
    parser.add_argument("--from-stage", type=int, default=0, help="0 is the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    for number in range(arguments.from_stage, len(STAGES)):
        model = train(number, arguments.seed, arguments.out)
    digest = write(model, arguments.out / "vit_embedded.safetensors")
    steps = sum(stage.steps for stage in STAGES)
    facts = {
        "architecture": ARCHITECTURE | {"img_size": STAGES[-1].side},
        "layers": LAYERS,
        "stages": [asdict(stage) for stage in STAGES],
        "steps": steps,
        "images": steps * EPISODES * (GOOD + DISTURBED),
        "seed": arguments.seed,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "sha256": digest,
    }
    (arguments.out / "vit_embedded.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
