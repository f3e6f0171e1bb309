"""Memory of a long `gad infer`: resident size at several points of a folder of 2,000 pictures.

    python benchmarks/memory.py [ARTIFACT]

It must be flat after the first hundred pictures. Without an artifact a tiny one is built. Linux
only, because the resident size is read from /proc. Exits with 1 when memory grew by more than 5 %.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from artifact import tiny_artifact

PICTURES = 2000
POINTS = (100, 500, 1000, 2000)
ALLOWED_GROWTH = 1.05
ROOT = Path(__file__).resolve().parents[1]

CHILD = """
import json, sys
from pathlib import Path
from generalad.runtime import Csv, JsonLines, Overlays, infer

points, seen = {points}, 0

def resident():
    pages = Path("/proc/self/status").read_text()
    return {{line.split(":")[0]: int(line.split()[1]) / 1024 for line in pages.splitlines()
            if line.startswith(("VmRSS", "VmHWM"))}}

def on_result(result):
    global seen
    seen += 1
    if seen in points:
        print(json.dumps([seen, resident()]), flush=True)

out = Path(sys.argv[3])
sinks = [JsonLines(out / "o.jsonl"), Csv(out / "o.csv"), Overlays(out / "overlays")]
infer(sys.argv[1], [sys.argv[2]], sinks=sinks, on_result=on_result)
"""


def main() -> int:
    """Measure, print the table, and judge it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = (
            Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else tiny_artifact(folder / "m.onnx")
        )
        write_pictures(folder / "pictures")
        command = (sys.executable, "-c", CHILD.format(points=POINTS), str(artifact))
        done = subprocess.run(
            (*command, str(folder / "pictures"), str(folder / "out")),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
    peaks = {}
    print(f"{'picture':>8} {'resident MiB':>13} {'peak MiB':>9}")
    for line in done.stdout.splitlines():
        number, memory = json.loads(line)
        peaks[number] = memory["VmHWM"]
        print(f"{number:>8} {memory['VmRSS']:>13.1f} {memory['VmHWM']:>9.1f}")
    growth = peaks[POINTS[-1]] / peaks[POINTS[0]]
    print(f"peak after {POINTS[-1]} pictures is {growth:.3f} times that after {POINTS[0]}")
    return int(growth > ALLOWED_GROWTH)


def write_pictures(folder: Path) -> None:
    """Twenty different pictures of 1.3 megapixels, each under a hundred names."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(20):
        small = generator.integers(0, 256, (32, 40, 3), np.uint8)
        picture = cv2.resize(small, (1280, 1024), interpolation=cv2.INTER_CUBIC)
        _, data = cv2.imencode(".jpg", picture)
        for copy in range(number, PICTURES, 20):
            (folder / f"{copy:05d}.jpg").write_bytes(data.tobytes())


if __name__ == "__main__":
    sys.exit(main())
