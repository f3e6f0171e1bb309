"""Seconds an epoch with cached features, against running the backbone again in every epoch.

The other way is what the published implementations do: each epoch reads the training and the
validation images and runs the frozen backbone on both. It is given our discriminator steps. Weights
are random, because speed does not depend on them. All ways are timed in turn, medians are printed.

On a CPU with bfloat16 the step is taken in it, while published implementations compute in float32.
Three ratios then tell apart what comes from the cache and what from the type: both ways in float32,
both wholly in bfloat16 (a backbone they could run, although its features would not be those of the
exported network), and the published way against ours as it runs by default.

    python benchmarks/training.py --model small --images 32 --repeats 3
    python benchmarks/training.py --model large --images 4 --repeats 1

These take about two and four minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from generalad.training.precision import autocast, training_dtype

SIZES = {"small": 224, "base": 224, "large": 518}
TARGETS = {"small": 3.0, "large": 6.0}
VALIDATION_SHARE = 0.475
"""Validation images for each training image; MVTec AD has 1725 for 3629."""
VALIDATION_BATCH = 8
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Recomputed(Features):
    """Features that are computed again, in `dtype`, whenever they are asked for."""

    backbone: Backbone
    paths: list[Path]
    size: tuple[int, int]
    dtype: torch.dtype = torch.float32

    def batch(
        self, indices: NDArray[np.int64], device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """See the base class."""
        images = [resize(read_image(self.paths[index]), self.size) for index in indices]
        with torch.no_grad(), autocast(CPU, self.dtype):
            pixels = torch.from_numpy(np.stack(images))
            features = self.backbone(normalise(pixels, self.backbone.mean, self.backbone.std))
        return features.float(), None


def main() -> None:
    """Time one model and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SIZES, default="small")
    parser.add_argument("--images", type=int, default=32, help="training images")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--image", type=int, default=900, help="height of the files, pixels")
    options = parser.parse_args()
    size = SIZES[options.model]
    config = PRESETS[options.model].replaced(
        {"image_size": size, "epochs": 1, "batch_size": min(options.batch, options.images)}
    )
    backbone = wrap(build_body(config.backbone, config.image_size), config.layers, (size, size))
    detector = Detector(config, backbone)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), options.images, options.image)
        held = write_images(
            Path(folder) / "held", round(VALIDATION_SHARE * options.images), options.image
        )
        features, filling = filled(paths, backbone, config, Path(folder) / "cache")
        again = Recomputed(features.values, None, True, 0, backbone, paths, (config.image_size))
        seconds = timed(detector, config, features, again, held, options.repeats)
    print(f"{config.backbone} at {size}, {len(paths)} training and {len(held)} validation images,")
    print(
        f"batch {config.batch_size}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    report(seconds, TARGETS.get(options.model))
    rate, size_mb = len(paths) / filling, features.values.nbytes / 1e6
    print(f"fill once  {filling:9.2f} s, {rate:.2f} images/s, {size_mb:.1f} MB")


def write_images(folder: Path, count: int, height: int) -> list[Path]:
    """Smooth images with a little noise, as PNG."""
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
) -> dict[tuple[str, torch.dtype], float]:
    """Median seconds an epoch of each way, taken in turn."""

    def cached(dtype: torch.dtype) -> None:
        fit(detector.discriminator, features, config, device=CPU, dtype=dtype)

    def recompute(dtype: torch.dtype) -> None:
        source = dataclasses.replace(again, dtype=dtype)
        fit(detector.discriminator, source, config, device=CPU, dtype=dtype)
        images = [resize(read_image(path), config.image_size) for path in held]
        detector.eval()
        with torch.inference_mode(), autocast(CPU, dtype):
            for first in range(0, len(images), VALIDATION_BATCH):
                detector(torch.from_numpy(np.stack(images[first : first + VALIDATION_BATCH])))

    dtypes = dict.fromkeys((torch.float32, training_dtype(CPU)))
    ways = {(way.__name__, dtype): way for dtype in dtypes for way in (cached, recompute)}
    taken: dict[tuple[str, torch.dtype], list[float]] = {key: [] for key in ways}
    for dtype in dtypes:
        cached(dtype)  # warm up
    for _ in range(repeats):
        for key, way in ways.items():
            start = time.perf_counter()
            way(key[1])
            taken[key].append(time.perf_counter() - start)
    return {key: statistics.median(times) for key, times in taken.items()}


def report(seconds: dict[tuple[str, torch.dtype], float], target: float | None) -> None:
    """Print each pair of ways and its ratio."""
    ours = training_dtype(CPU)
    pairs = [(torch.float32, torch.float32)]
    if ours != torch.float32:
        pairs += [(ours, ours), (torch.float32, ours)]
    print("recompute (backbone and step)   cached (step)   ratio" + " (target)" * bool(target))
    for first, second in pairs:
        theirs, mine = seconds["recompute", first], seconds["cached", second]
        names = [str(dtype).removeprefix("torch.") for dtype in (first, second)]
        line = f"{names[0]:9} {theirs:10.2f} s {names[1]:>16} {mine:7.2f} s {theirs / mine:8.2f}"
        print(line + (f" ({target:g})" if target else ""))


if __name__ == "__main__":
    main()
