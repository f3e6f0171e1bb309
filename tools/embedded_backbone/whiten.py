"""Even out the features of the trained backbone and write it.

Pseudo-anomalies are noise of one size in all directions. Where features hardly vary, such noise is
recognised at once and nothing is learned about the other directions. So the last linear layer is
turned and scaled: the differences between the good patches of one category get unit variance in
every direction, on average over procedural categories. Nothing of a demo part or of a user's
images goes into it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from generalad.model.backbone import normalise
from generalad.spec import IMAGENET_MEAN, IMAGENET_STD
from tools.embedded_backbone.generator import draw_episode

SEED, CATEGORIES, IMAGES, SIDE = 777, 100, 4, 256
RIDGE = 1e-3
"""Added to every eigenvalue, as a part of their mean: without it, rounding errors would be blown up
to the size of features."""


def covariance(model: VisionTransformer) -> Tensor:
    """Mean covariance (D, D) of the features within a procedural category.

    Where a category is aligned, around the mean of each place.
    """
    total: Tensor | float = 0.0
    with torch.inference_mode():
        for number in range(CATEGORIES):
            episode = draw_episode(
                (SEED, number), good=IMAGES, disturbed=1, side=SIDE, intricate=bool(number % 3)
            )
            found = model.forward_features(
                normalise(torch.from_numpy(episode.good), IMAGENET_MEAN, IMAGENET_STD)
            ).double()
            mean = found.mean(dim=0) if episode.aligned else found.mean(dim=(0, 1))
            centred = (found - mean).flatten(0, 1)
            total = total + centred.T @ centred / len(centred)
    return torch.as_tensor(total) / CATEGORIES


def whitening(covariance: Tensor) -> Tensor:
    """The matrix (D, D) W for which features @ W.T have unit variance in every direction."""
    values, vectors = torch.linalg.eigh(covariance)
    return torch.as_tensor(((values + RIDGE * values.mean()).rsqrt() * vectors).T)


def whiten(model: VisionTransformer) -> None:
    """Fold the whitening into the last linear layer."""
    last = model.norm[1]  # type: ignore[index]
    assert isinstance(last, nn.Linear)
    matrix = whitening(covariance(model)).float()
    last.weight.data = matrix @ last.weight.data


def write(model: nn.Module, facts: dict[str, Any], folder: Path) -> None:
    """Write the weights as float16, with a description that names their hash."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vit_embedded.safetensors"
    state = {
        name: value.half().contiguous()
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }
    save_file(state, path)
    facts = {
        **facts,
        "whitening": {"categories": CATEGORIES, "images": IMAGES, "ridge": RIDGE},
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (folder / "vit_embedded.json").write_text(json.dumps(facts, indent=2) + "\n")
