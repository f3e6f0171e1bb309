"""Start-up time: whole processes, interleaved so that a busy machine slows all of them alike.

    python benchmarks/startup.py [ARTIFACT]

Without an artifact a tiny one is built, so that loading and running the network take next to no
time. Prints the median wall and processor time of each command and its ratio to the floor: a
process that only imports the three libraries that inference cannot do without.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from artifact import tiny_artifact

ROUNDS = 15
GAD = (sys.executable, "-c", "from generalad.cli import main; main()")
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = (
            Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else tiny_artifact(folder / "m.onnx")
        )
        cv2.imwrite(str(folder / "one.png"), np.full((256, 256, 3), 90, np.uint8))
        commands = {
            "import numpy, cv2, onnxruntime": (
                sys.executable,
                "-c",
                "import numpy, cv2, onnxruntime",
            ),
            "gad --help": (*GAD, "--help"),
            "gad infer, one picture": (*GAD, "infer", str(artifact), str(folder / "one.png")),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for command in commands.values():  # fills the file cache and writes byte code
            run(command)
        for _ in range(ROUNDS):
            for name, command in commands.items():
                times[name].append(run(command))
    floor = statistics.median(wall for wall, _ in next(iter(times.values())))
    print(f"{'command':<32} {'wall ms':>8} {'cpu ms':>8} {'ratio':>6}   ({ROUNDS} rounds)")
    for name, rounds in times.items():
        wall, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"{name:<32} {wall * 1000:8.0f} {cpu * 1000:8.0f} {wall / floor:6.2f}")


def run(command: tuple[str, ...]) -> tuple[float, float]:
    """Wall and processor seconds of one process."""
    before = os.times()
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    wall = time.perf_counter() - began
    after = os.times()
    cpu = after.children_user + after.children_system
    return wall, cpu - before.children_user - before.children_system


if __name__ == "__main__":
    main()
