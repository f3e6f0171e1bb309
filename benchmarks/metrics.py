"""Time of the pixel metrics and their intervals, beside scikit-learn's AUROC on the same pixels.

    python benchmarks/metrics.py [--images 583] [--sizes 128 518]

Prints the seconds of both at each size and their ratio; takes about two minutes, most of them
scikit-learn's at the larger size.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from generalad.metrics.pixel_table import GOOD, LabelledMap, tabulate_pixels

T = TypeVar("T")

TYPES = ("bent", "crack", "hole", "scratch")


def make_maps(count: int, size: int) -> list[LabelledMap]:
    """Smooth random maps at a quarter of the size; four of five images have one to three blobs."""
    rng = np.random.default_rng(0)
    maps: list[LabelledMap] = []
    for i in range(count):
        noise = rng.normal(size=(size // 4, size // 4)).astype(np.float32)
        values = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.float32)
        mask = np.zeros((size, size), np.uint8)
        if i % 5:
            for _ in range(int(rng.integers(1, 4))):
                x, y = rng.integers(0, size, 2)
                cv2.circle(
                    mask, (int(x), int(y)), max(1, int(size * rng.uniform(0.01, 0.08))), 1, -1
                )
            shrunk = cv2.resize(mask.astype(np.float32), (size // 4, size // 4))
            values += 0.3 * np.asarray(shrunk, np.float32)
        label = TYPES[i % len(TYPES)] if i % 5 else GOOD
        maps.append(LabelledMap(label, values, mask.astype(np.bool_)))
    return maps


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds and result of one call."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def scikit_learn_auroc(maps: list[LabelledMap], size: int) -> float:
    """Pixel AUROC as usually computed: all pixels in one array."""
    resized = [cv2.resize(item.map, (size, size)).ravel() for item in maps]
    labels = np.concatenate([item.mask.ravel() for item in maps if item.mask is not None])
    return float(roc_auc_score(labels, np.concatenate(resized)))


def measure(images: int, size: int) -> str:
    """One row of the table."""
    maps = make_maps(images, size)
    table_s, table = timed(lambda: tabulate_pixels(maps, (size, size)))

    measure_s, found = timed(lambda: table.measure(TYPES))
    value = found.metrics[0].value
    reference_s, reference = timed(lambda: scikit_learn_auroc(maps, size))
    if abs(value - reference) > 1e-9:
        raise SystemExit(f"pixel AUROC {value} differs from scikit-learn's {reference}")
    total = table_s + measure_s
    return (
        f"{size:>5} px {images * size**2 / 1e6:>9.1f} M {table_s:>9.2f} s {measure_s:>9.2f} s "
        f"{total:>7.2f} s {reference_s:>11.2f} s {total / reference_s:>6.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=583)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 518])
    options = parser.parse_args()
    print("AUROC, AP, AUPRO of all pixels, exact, with 95 % intervals")
    print(
        f"{'size':>8} {'pixels':>11} {'tabulate':>11} {'measure':>11} {'all':>9} "
        f"{'sklearn AUROC':>13} {'ratio':>6}"
    )
    for size in options.sizes:
        print(measure(options.images, size))


if __name__ == "__main__":
    main()
