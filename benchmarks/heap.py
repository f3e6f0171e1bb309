"""What it gains `gad infer` to keep the memory of images: whole processes, in turns.

    python benchmarks/heap.py [ROUNDS]

Images of 1920 x 1080 from files and from a video, with and without overlays, and a tiny artifact,
so that the time goes into reading, drawing and writing. Prints images a second with glibc left
to itself and with memory kept, and the median of the ratios of neighbouring runs. Only for glibc.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from artifact import tiny_artifact
from command import GAD, ROOT

IMAGES = 120
LEFT_ALONE = {"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}
"""The default of glibc, before which `gad infer` stands back."""


def main() -> None:
    """Measure and print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = tiny_artifact(folder / "m.onnx")
        files, video = write_images(folder)
        csv = ("--csv", folder / "o.csv")
        drawn = ("--overlays", folder / "overlays")
        print(f"{'source':<24} {'left alone':>12} {'kept':>8} {'ratio':>8}   ({rounds} rounds)")
        for title, words in (
            ("files", (files, *csv)),
            ("files, overlays", (files, *csv, *drawn)),
            ("video", (video, *csv)),
        ):
            command = (*GAD, "infer", str(artifact), *map(str, words))
            left: list[float] = []
            kept: list[float] = []
            for number in range(rounds):
                for which in (left, kept) if number % 2 else (kept, left):
                    which.append(rate(command, LEFT_ALONE if which is left else {}))
            ratio = statistics.median(b / a for a, b in zip(left, kept, strict=True))
            medians = f"{statistics.median(left):10.1f}/s {statistics.median(kept):6.1f}/s"
            print(f"{title:<24} {medians} {ratio:8.2f}", flush=True)


def write_images(folder: Path) -> tuple[Path, Path]:
    """A folder of JPEG files, and a video of the same images, twice."""
    files, video = folder / "files", folder / "video.mp4"
    files.mkdir()
    generator = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25, (1920, 1080))
    for number in range(IMAGES):
        small = generator.integers(0, 256, (108, 192, 3), np.uint8)
        image = cv2.resize(small, (1920, 1080), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(files / f"{number:03d}.jpg"), image)
        for _ in range(2):
            writer.write(image)
    writer.release()
    return files, video


def rate(command: tuple[str, ...], settings: dict[str, str]) -> float:
    """Images a second of one process, as its summary says."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT, env=env | settings
    )
    found = re.search(r"([\d.]+) images/s", done.stderr)
    assert found is not None, done.stderr
    return float(found[1])


if __name__ == "__main__":
    main()
