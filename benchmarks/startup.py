"""Start-up time: whole processes, interleaved so that a busy machine slows all of them alike.

    python benchmarks/startup.py [ARTIFACT]

Without an artifact a tiny one is built, so that loading and running the network take next to no
time. Prints the median wall and processor time of each command, and the median of its ratios to the
floor of the same round: a process that only imports the three libraries that inference cannot do
without. Takes half a minute.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from shared import GAD, ROOT, tiny_artifact

Times = tuple[float, float]
"""Wall and processor seconds."""

ROUNDS = 15


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
            "gad infer, one image": (*GAD, "infer", str(artifact), str(folder / "one.png")),
        }
        times: dict[str, list[Times]] = {name: [] for name in commands}
        for command in commands.values():  # fills the file cache and writes byte code
            run(command)
        for _ in range(ROUNDS):
            for name, command in commands.items():
                times[name].append(run(command))
    floor = times[next(iter(times))]
    heads = f"{'wall ms':>8} {'ratio':>6} {'cpu ms':>8} {'ratio':>6}"
    print(f"{'command':<32} {heads}   ({ROUNDS} rounds)")
    for name, rounds in times.items():
        columns = (_columns(rounds, floor, of) for of in (0, 1))
        print(f"{name:<32} {' '.join(columns)}")


def _columns(rounds: list[Times], floor: list[Times], of: int) -> str:
    """Median milliseconds, and median ratio to the floor, of wall (0) or processor time (1)."""
    median = statistics.median(times[of] for times in rounds)
    ratios = (times[of] / least[of] for times, least in zip(rounds, floor, strict=True))
    return f"{median * 1000:8.0f} {statistics.median(ratios):6.2f}"


def run(command: tuple[str, ...]) -> Times:
    """Wall and processor seconds of one process, with byte code as an installation has it."""
    settings = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=settings)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
