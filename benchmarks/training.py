"""Seconds an epoch with cached features, against running the backbone again in every epoch.

The other way is what the published implementations do: each epoch reads the training and the
validation images, runs the frozen backbone on both, and takes the same discriminator steps. Weights
are random, because speed does not depend on them. Both ways are timed in turn, medians are printed.

    python benchmarks/training.py --model small --images 32 --repeats 3
    python benchmarks/training.py --model large --images 4 --repeats 1
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generalad.config import PRESETS, Config
from generalad.files import sha256_of_file
from generalad.model.backbone import Backbone, normalise, wrap
from generalad.model.detector import Detector
from generalad.model.weights import build_body
from generalad.preprocess import read_image, resize
from generalad.training.cache import Features, cached_features
from generalad.training.loop import fit
from generalad.training.train import score_pictures

SIZES = {"small": 224, "base": 224, "large": 518}
TARGETS = {"small": 3.0, "large": 6.0}
VALIDATION_SHARE = 0.475
"""Validation images for each training image; MVTec AD has 1725 for 3629."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Recomputed(Features):
    """Features that are computed again whenever they are asked for."""

    backbone: Backbone
    paths: list[Path]
    size: tuple[int, int]

    def batch(
        self, indices: NDArray[np.int64], device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """See the base class."""
        pictures = [resize(read_image(self.paths[index]), self.size) for index in indices]
        with torch.no_grad():
            return self.backbone(normalise(torch.from_numpy(np.stack(pictures)))), None


def main() -> None:
    """Time one model and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SIZES, default="small")
    parser.add_argument("--images", type=int, default=32, help="training images")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--picture", type=int, default=900, help="height of the files, pixels")
    options = parser.parse_args()
    size = SIZES[options.model]
    config = PRESETS[options.model].replaced(
        {"image_size": size, "epochs": 1, "batch_size": min(options.batch, options.images)}
    )
    backbone = wrap(build_body(config.backbone, config.image_size), config.layers, (size, size))
    detector = Detector(config, backbone)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), options.images, options.picture)
        held = write_pictures(
            Path(folder) / "held", round(VALIDATION_SHARE * options.images), options.picture
        )
        features, seconds = filled(paths, backbone, config, Path(folder) / "cache")
        again = Recomputed(features.values, None, True, 0, backbone, paths, (config.image_size))
        ours, theirs = timed(detector, config, features, again, held, options.repeats)
    print(f"{config.backbone} at {size}, {len(paths)} training and {len(held)} validation images,")
    print(
        f"batch {config.batch_size}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"recompute  {theirs:9.2f} s an epoch")
    print(f"cached     {ours:9.2f} s an epoch")
    target = f" (target {TARGETS[options.model]:g})" if options.model in TARGETS else ""
    print(f"ratio      {theirs / ours:9.2f}{target}")
    rate, size_mb = len(paths) / seconds, features.values.nbytes / 1e6
    print(f"fill once  {seconds:9.2f} s, {rate:.2f} images/s, {size_mb:.1f} MB")


def write_pictures(folder: Path, count: int, height: int) -> list[Path]:
    """Smooth pictures with a little noise, as PNG."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(count)
    paths = []
    for index in range(count):
        coarse = rng.integers(40, 200, (12, 12, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (height, height), interpolation=cv2.INTER_CUBIC)
        noisy = smooth.astype(np.int16) + rng.integers(-3, 4, smooth.shape)
        paths.append(folder / f"{index:03d}.png")
        cv2.imwrite(str(paths[-1]), np.clip(noisy, 0, 255).astype(np.uint8))
    return paths


def filled(
    paths: list[Path], backbone: Backbone, config: Config, folder: Path
) -> tuple[Features, float]:
    """The cached features and the seconds it took to compute them."""
    start = time.perf_counter()
    features = cached_features(
        paths,
        [sha256_of_file(path) for path in paths],
        backbone,
        identity={"name": config.backbone},
        image_size=config.image_size,
        attention=False,
        device=CPU,
        folder=folder,
        batch_size=config.batch_size,
    )
    return features, time.perf_counter() - start


def timed(
    detector: Detector,
    config: Config,
    features: Features,
    again: Recomputed,
    held: list[Path],
    repeats: int,
) -> tuple[float, float]:
    """Median seconds an epoch of our way and of the other one, in turn."""
    ours, theirs = [], []
    fit(detector.discriminator, features, config, device=CPU)  # warm up
    for _ in range(repeats):
        start = time.perf_counter()
        fit(detector.discriminator, features, config, device=CPU)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        fit(detector.discriminator, again, config, device=CPU)
        pictures = [resize(read_image(path), config.image_size) for path in held]
        score_pictures(detector.eval(), pictures)
        theirs.append(time.perf_counter() - start)
    return statistics.median(ours), statistics.median(theirs)


if __name__ == "__main__":
    main()
