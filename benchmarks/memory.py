"""Memory of a long `gad infer`: resident size at several points of a folder of 2,000 images.

    python benchmarks/memory.py [ARTIFACT]

It must be flat after the first hundred images. Without an artifact a tiny one is built. Linux
only, because the resident size is read from /proc. Exits with 1 when memory grew by more than 5 %.
Takes about a minute.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from shared import GAD, ROOT, tiny_artifact

IMAGES = 2000
POINTS = (100, 500, 1000, 1990)  # the process is gone soon after the last one
ALLOWED_GROWTH = 1.05


def main() -> int:
    """Measure, print the table, and judge it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = (
            Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else tiny_artifact(folder / "m.onnx")
        )
        write_images(folder / "images")
        out = folder / "out"
        out.mkdir()
        words = (artifact, folder / "images", "--json", "-")
        outputs = ("--csv", out / "o.csv", "--overlays", out / "overlays")
        print(f"{'image':>8} {'resident MiB':>13} {'peak MiB':>9}")
        peaks = watch((*GAD, "infer", *map(str, (*words, *outputs))))
    growth = peaks[POINTS[-1]] / peaks[POINTS[0]]
    print(f"peak after {POINTS[-1]} images is {growth:.3f} times that after {POINTS[0]}")
    return int(growth > ALLOWED_GROWTH)


def watch(command: tuple[str, ...]) -> dict[int, float]:
    """Peak memory in MiB when so many results had come; prints as it goes."""
    peaks = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        for number, _ in enumerate(process.stdout, start=1):
            if number in POINTS:
                text = Path(f"/proc/{process.pid}/status").read_text()
                lines = (line.split() for line in text.splitlines())
                memory = {words[0]: int(words[1]) / 1024 for words in lines if "kB" in words}
                peaks[number] = memory["VmHWM:"]
                print(f"{number:>8} {memory['VmRSS:']:>13.1f} {memory['VmHWM:']:>9.1f}")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peaks


def write_images(folder: Path) -> None:
    """Twenty different images of 1.3 megapixels, each under a hundred names."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(20):
        small = generator.integers(0, 256, (32, 40, 3), np.uint8)
        image = cv2.resize(small, (1280, 1024), interpolation=cv2.INTER_CUBIC)
        _, data = cv2.imencode(".jpg", image)
        for copy in range(number, IMAGES, 20):
            (folder / f"{copy:05d}.jpg").write_bytes(data.tobytes())


if __name__ == "__main__":
    sys.exit(main())
