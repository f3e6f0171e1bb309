"""Cut and whiten the backbone: `python -m tools.embedded_backbone.whiten IN_FOLDER OUT_FOLDER`.

The features of a small network vary in few directions: within the training categories the largest
eigenvalue of their covariance is a thousand times the hundredth. Pseudo-anomalies are noise of one
size in all directions; they are recognised by the directions in which features never vary,
and nothing is learned about the others. So a linear layer follows the final LayerNorm. It gives the
differences between the patches of one category unit variance in every direction, on average over
procedural training categories. Nothing of a demo part or of a user's images goes into it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from tools.embedded_backbone.generator import draw_episode
from tools.embedded_backbone.train import normalise

SEED, CATEGORIES, PICTURES = 77, 100, 4
DEPTH = 3
"""Blocks that are kept: nearest neighbours told defects better after these than after all five."""
RIDGE = 1e-3
"""Added to every eigenvalue, as a part of their mean: without it, rounding errors would be blown up
to the size of features."""


def covariance(model: VisionTransformer, side: int) -> Tensor:
    """Mean covariance (D, D) of the final features within a procedural category."""
    total = torch.zeros(model.embed_dim, model.embed_dim, dtype=torch.float64)
    with torch.inference_mode():
        for number in range(CATEGORIES):
            episode = draw_episode(
                (SEED, number), good=PICTURES, disturbed=1, side=side, intricate=bool(number % 2)
            )
            found = model.forward_features(normalise(torch.from_numpy(episode.good)))
            found = found.double().flatten(0, 1)
            centred = found - found.mean(dim=0)
            total += centred.T @ centred / len(centred)
    return total / CATEGORIES


def whitening(covariance: Tensor) -> Tensor:
    """The matrix (D, D) W for which features @ W.T have unit variance in every direction."""
    values, vectors = torch.linalg.eigh(covariance)
    return torch.as_tensor(((values + RIDGE * values.mean()).rsqrt() * vectors).T)


def main() -> None:
    """Read the command line, measure, write the file with its description."""
    parser = argparse.ArgumentParser(description="Add a whitening layer to the backbone.")
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    facts: dict[str, Any] = json.loads((arguments.source / "vit_embedded.json").read_text())
    state = load_file(arguments.source / "vit_embedded.safetensors")
    facts["architecture"]["depth"] = DEPTH
    late = tuple(f"blocks.{number}." for number in range(DEPTH, max(facts["layers"])))
    facts["layers"] = [DEPTH]
    state = {name: value for name, value in state.items() if not name.startswith(late)}
    model = VisionTransformer(**facts["architecture"], dynamic_img_size=False).eval()
    model.load_state_dict({name: value.float() for name, value in state.items()})
    matrix = whitening(covariance(model, facts["architecture"]["img_size"]))
    for name in ("norm.weight", "norm.bias"):
        state[name.replace("norm", "norm.0")] = state.pop(name)
    state["norm.1.weight"] = matrix.half().contiguous()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "vit_embedded.safetensors"
    save_file(state, path)
    facts["whitening"] = {"categories": CATEGORIES, "pictures": PICTURES, "ridge": RIDGE}
    facts["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (arguments.out / "vit_embedded.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
