"""What the shipped backbone gives on procedural categories of texture families kept from training.

`python -m tools.embedded_backbone.evaluate` writes each category as a dataset, trains the preset
`embedded` on its good images as a user would, and prints image and pixel AUROC. Demo parts and a
user's own images need no tool: `gad demo`, `gad train --preset embedded` and `gad eval`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from generalad.config import load_config
from generalad.evaluation import evaluate
from generalad.training.train import train_detector
from tools.embedded_backbone.generator import draw_episode

SEED, SIDE = 900, 256
TRAIN, TEST_GOOD, DISTURBED = 100, 30, 30


def write_category(folder: Path, number: int) -> Path:
    """One category in the layout of MVTec AD."""
    episode = draw_episode(
        (SEED, number), good=TRAIN + TEST_GOOD, disturbed=DISTURBED, side=SIDE,
        intricate=True, held_out=True,
    )  # fmt: skip
    parts = {
        "train/good": episode.good[:TRAIN],
        "test/good": episode.good[TRAIN:],
        "test/disturbed": episode.disturbed,
        "ground_truth/disturbed": episode.masks.astype(np.uint8) * 255,
    }
    for name, images in parts.items():
        (folder / name).mkdir(parents=True)
        suffix = "_mask" if name.startswith("ground_truth") else ""
        for index, image in enumerate(images):
            cv2.imwrite(str(folder / name / f"{index:03d}{suffix}.png"), image[..., ::-1])
    return folder


def main() -> None:
    """Read the command line, evaluate, and print one line a category."""
    parser = argparse.ArgumentParser(description="Evaluate the embedded backbone.")
    parser.add_argument("--categories", type=int, default=8)
    arguments = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(arguments.categories):
            data = write_category(Path(temporary) / f"category{number}", number)
            run = Path(temporary) / f"run{number}"
            train_detector(data, run, load_config("embedded"), cache=Path(temporary) / "cache")
            found = evaluate(run, data).evaluation
            figures.append((found.image_auroc.value, found.pixel_auroc.value))
            image, pixel = figures[-1]
            print(
                f"category {number}  image AUROC {image:.3f}  pixel AUROC {pixel:.3f}", flush=True
            )
    print("mean        image AUROC {:.3f}  pixel AUROC {:.3f}".format(*np.mean(figures, axis=0)))


if __name__ == "__main__":
    main()
