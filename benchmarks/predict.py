"""What `predict` costs over `Session.run` on the resized image and the resize itself.

    python benchmarks/predict.py [ARTIFACT ...]

Both ways use one session in one process and take turns in random order; printed is the median of
the ratios of pairs with its 95 % interval, and the difference in microseconds. Without artifacts:
a network that is almost nothing, where every microsecond shows, and the embedded backbone, trained
for one epoch on drawn parts (half a minute).
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from shared import tiny_artifact

import generalad
from generalad.predictor import Predictor
from generalad.preprocess import resize
from generalad.runtime import Session, open_session
from generalad.synth import render_part, write_dataset

BATCH = 8
SIZES = ((256, 256), (480, 640), (1080, 1920))
"""(height, width) of the images."""


class Pairs(NamedTuple):
    """Ratio of two ways, second to first, over pairs; with the seconds of the first."""

    seconds: float
    ratio: float
    low: float
    high: float
    extra: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artifacts", type=Path, nargs="*")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each line")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    print(f"{'artifact':<14}{'image':>11}{'given':>15}", end="")
    print(f"{'base, us':>12}{'ratio':>9}{'95 %':>17}{'extra, us':>11}")
    with tempfile.TemporaryDirectory() as folder:
        artifacts = given.artifacts or [tiny_artifact(Path(folder) / "tiny.onnx"), embedded(folder)]
        for path in artifacts:
            with open_session(path, threads=given.threads) as session:
                for size in SIZES:
                    measure(path.stem, session, size, given.seconds)


def embedded(folder: str) -> Path:
    """The embedded backbone as an artifact."""
    data = write_dataset(Path(folder) / "data", categories=["washer"], train=24)
    trained = generalad.train(
        data / "washer", Path(folder) / "run", preset="embedded", epochs=1, cache=Path(folder)
    )
    return generalad.export(trained, Path(folder) / "embedded.onnx").path


def measure(name: str, session: Session, size: tuple[int, int], seconds: float) -> None:
    """Print a line for one image and one for a list."""
    model, network = Predictor(session), session.spec.image_size
    rng = np.random.default_rng(0)
    side = max(size)
    images = [
        np.ascontiguousarray(render_part("washer", rng, size=side)[0][: size[0], : size[1]])
        for _ in range(2 * BATCH)
    ]
    one = images[0]

    def bare() -> object:
        return session.run(np.ascontiguousarray(resize(one, network))[None])

    def bare_batches() -> object:
        return [
            session.run(np.stack([resize(image, network) for image in images[i : i + BATCH]]))
            for i in range(0, len(images), BATCH)
        ]

    ways: list[tuple[str, int, Callable[[], object], Callable[[], object]]] = [
        ("1", 1, bare, lambda: model.predict(one)),
        ("1, score read", 1, bare, lambda: model.predict(one).score),
        (
            f"{len(images)} by {BATCH}",
            len(images),
            bare_batches,
            lambda: [found.score for found in model.predict(images, batch_size=BATCH)],
        ),
    ]
    for what, count, first, second in ways:
        found = take_turns(first, second, seconds)
        interval = f"{found.low:.4f}-{found.high:.4f}"
        print(
            f"{name:<14}{size[1]:>6}x{size[0]:<4}{what:>15}{found.seconds / count * 1e6:>12.1f}"
            f"{found.ratio:>9.4f}{interval:>17}{found.extra / count * 1e6:>11.1f}"
        )


def take_turns(first: Callable[[], object], second: Callable[[], object], seconds: float) -> Pairs:
    """Run both in pairs, in random order, for some seconds."""
    times: list[tuple[float, float]] = []
    for way in (first, second) * 3:
        way()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 20:
        taken = [0.0, 0.0]
        for side in random.sample((0, 1), 2):
            began = time.perf_counter()
            (first, second)[side]()
            taken[side] = time.perf_counter() - began
        times.append((taken[0], taken[1]))
    base, ours = np.array(times).T
    return Pairs(
        float(np.median(base)), *median_interval(ours / base), float(np.median(ours - base))
    )


def median_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """The median, and the order statistics that enclose the true one in 95 % of cases."""
    ordered = np.sort(values)
    reach = 0.98 * np.sqrt(len(values))
    low = max(0, int(len(values) / 2 - reach))
    high = min(len(values) - 1, int(np.ceil(len(values) / 2 + reach)))
    return float(np.median(values)), float(ordered[low]), float(ordered[high])


if __name__ == "__main__":
    main()
