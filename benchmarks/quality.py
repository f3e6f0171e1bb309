"""What the detector finds on real data: any folders in MVTec layout, default settings, some seeds.

    python benchmarks/quality.py DIR... [--seeds 3] [--methods residual gaussian patchcore]
                                 [--preset edge] [--shifts]

For each dataset and method: image AUROC, pixel AUROC and AUPRO as mean (lowest to highest of the
seeds), then how many defects are missed and how many good images are called anomalous at the
detector's own threshold. The methods beside `residual` are plain references on the same features;
features are cached, so they cost little more. Nothing is chosen on test images.

With `--shifts` the good and defective test images are scored once more under another light or
codec: false alarms and image AUROC for each, with the threshold as it was, and false alarms and
misses on the other images after `gad calibrate` on 8 and on 50 good ones of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import generalad
from generalad.data.dataset import open_dataset
from generalad.errors import GadError
from generalad.metrics.ranking import auroc
from generalad.preprocess import read_image
from generalad.synth.views import compressed

Image = NDArray[np.uint8]


def _light(factor: float) -> Callable[[Image], Image]:
    return lambda image: np.asarray(np.clip(np.round(image * factor), 0, 255), np.uint8)


def _contrast(factor: float) -> Callable[[Image], Image]:
    def shift(image: Image) -> Image:
        mean = image.mean()
        return np.asarray(np.clip(np.round(mean + (image - mean) * factor), 0, 255), np.uint8)

    return shift


def _video(image: Image) -> Image:
    """What comes out of an MPEG-4 video at OpenCV's default rate, after a few equal frames."""
    height, width = (side - side % 2 for side in image.shape[:2])
    bgr = np.ascontiguousarray(image[:height, :width, ::-1])
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/video.mp4"
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
        for _ in range(FRAMES):
            writer.write(bgr)
        writer.release()
        video = cv2.VideoCapture(path)
        frames = [video.read()[1] for _ in range(FRAMES)]
        video.release()
    return np.ascontiguousarray(frames[-1][..., ::-1], np.uint8)


SHIFTS: dict[str, Callable[[Image], Image]] = {
    "JPEG 80": lambda image: compressed(image, 80),
    "light -20 %": _light(0.8),
    "light +20 %": _light(1.2),
    "contrast -10 %": _contrast(0.9),
    "contrast +10 %": _contrast(1.1),
    "MPEG-4": _video,
}
FRAMES = 3
CONFIRMED = (8, 50)
"""Good images of a shift that `gad calibrate` is given."""


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=["residual", "gaussian", "patchcore"])
    parser.add_argument("--preset", default="edge")
    parser.add_argument("--shifts", action="store_true")
    parser.add_argument("--cache", type=Path, help="folder of the feature cache")
    given = parser.parse_args()
    for data in given.data:
        for method in given.methods:
            with tempfile.TemporaryDirectory() as folder:
                _measure(data, method, given, Path(folder))


def _measure(data: Path, method: str, given: argparse.Namespace, folder: Path) -> None:
    rows, seconds = [], []
    for seed in range(given.seeds):
        began = time.perf_counter()
        trained = generalad.train(
            data,
            folder / str(seed),
            preset=given.preset,
            method=method,
            seed=seed,
            skip_bad=True,
            cache=given.cache,
        )
        seconds.append(time.perf_counter() - began)
        found = generalad.evaluate(trained.folder, data).evaluation
        rows.append(found)
        if given.shifts:
            _shifts(trained.folder, data)
    figures = [
        _spread([None if part is None else part.value for part in parts])
        for parts in (
            [row.image_auroc for row in rows],
            [row.pixel_auroc for row in rows],
            [row.aupro for row in rows],
        )
    ]
    size = "x".join(map(str, trained.spec.image_size))
    missed = " ".join(f"{row.misses.count}/{row.misses.total}" for row in rows)
    alarms = " ".join(f"{row.false_alarms.count}/{row.false_alarms.total}" for row in rows)
    print(
        f"{data.name} {method} {size} | image {figures[0]} | pixel {figures[1]} | AUPRO"
        f" {figures[2]} | missed {missed} | false alarms {alarms} | {min(seconds):.0f} to"
        f" {max(seconds):.0f} s of training",
        flush=True,
    )


def _spread(values: list[Any]) -> str:
    if None in values:
        return "-"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _shifts(detector: Path, data: Path) -> None:
    samples = open_dataset(data).test
    defective = np.array([sample.defective for sample in samples])
    artifact = generalad.export(detector).path
    with generalad.load(artifact) as model:
        for name, shift in SHIFTS.items():
            images = [shift(read_image(sample.path)) for sample in samples]
            found = list(model.predict(images, batch_size=8))
            scores = np.array([one.score for one in found])
            alarms = np.array([one.is_anomalous for one in found])
            wrong = int((alarms & ~defective).sum())
            print(
                f"  {data.name} {name}: image AUROC {auroc(defective, scores):.3f},"
                f" {wrong} of {int((~defective).sum())} good images anomalous"
                + "".join(_calibrated(artifact, images, scores, defective, n) for n in CONFIRMED),
                flush=True,
            )


def _calibrated(
    artifact: Path, images: list[Image], scores: Any, defective: Any, count: int
) -> str:
    """False alarms and misses after `gad calibrate` on `count` good images, on all others."""
    good = np.flatnonzero(~defective)
    if len(good) < 2 * count:
        return ""
    confirmed = np.random.default_rng(0).permutation(good)[:count]
    with tempfile.TemporaryDirectory() as folder:
        for index in confirmed:
            cv2.imwrite(f"{folder}/{index}.png", images[index][..., ::-1])
        try:
            threshold = generalad.calibrate(artifact, [folder]).new.thresholds.image
        except GadError as error:
            return f"; calibrate on {count}: {error.message.splitlines()[0]}"
    rest = ~np.isin(np.arange(len(images)), confirmed)
    wrong, missed = (
        (scores >= threshold) & ~defective & rest,
        (scores < threshold) & defective,
    )
    return (
        f"; calibrated on {count}: {wrong.sum()} of {(rest & ~defective).sum()},"
        f" missed {missed.sum()} of {defective.sum()}"
    )


if __name__ == "__main__":
    main()
