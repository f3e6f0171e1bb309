"""How well a network's time keeps step with the reference kernels while the machine changes.

    python benchmarks/travel.py ARTIFACT [--seconds S] [--rounds N] [--threads 1 2]

One process for each state of the machine: alone, beside programs that compute or copy, on one core.
Printed are the times by the clock, without the waiting for a core, and
over the kernels', and how far each strays over the states (standard deviation of the logarithm):
what is left of it in the last is what a travelling baseline must allow for. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from generalad.bench.reference import run_references
from generalad.bench.worker import Watch
from generalad.preprocess import decode_image, resize
from generalad.runtime import open_session

LOADS = {
    "busy": "x = 1\nwhile True: x = x * 3 % 1000003",
    "products": "import numpy as np; a = np.ones((700, 700), 'f')\nwhile True: a @ a",
    "copies": "import numpy as np; a = np.ones(64 << 20, 'u1'); b = a + 1\n"
    "while True: np.copyto(b, a)",
}
STATES: dict[str, tuple[list[str], set[int] | None]] = {
    # Programs beside it, and the cores that all of them may use.
    "alone": ([], None),
    "beside a busy one": (["busy"], None),
    "beside products": (["products"], None),
    "beside copies": (["copies"], None),
    "beside two busy ones": (["busy", "busy"], None),
    "on one core": ([], {0}),
    "on one core, beside products": (["products"], {0}),
}
RUNS = 6
COMBINATIONS = {
    "matmul": (1.0, 0.0, 0.0),
    "copy": (0.0, 1.0, 0.0),
    "convolution": (0.0, 0.0, 1.0),
    "geometric mean": (1 / 3, 1 / 3, 1 / 3),
}


class Row(NamedTuple):
    """Medians of one process: logarithms of milliseconds, and of them over the kernels'."""

    clock: dict[str, float]
    own: dict[str, float]
    over: dict[str, dict[str, float]]


def main() -> None:
    """Run every state, print every row and how far each column strays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each state")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(measure(options.artifact, options.inside, options.seconds)))
        return
    for threads in options.threads:
        rows = [
            show(state, load, under(state, options, threads))
            for _ in range(options.rounds)
            for state in STATES
            for load in [os.getloadavg()[0]]
        ]
        strays(rows, threads)


def under(state: str, options: argparse.Namespace, threads: int) -> Row:
    """Measure in a process of its own while the machine is in a state."""
    loads, cores = STATES[state]
    command = [sys.executable, __file__, str(options.artifact), "--inside", str(threads)]
    with ExitStack() as stack:
        for load in loads:
            stack.enter_context(running([sys.executable, "-c", LOADS[load]], cores))
        inside = stack.enter_context(running([*command, "--seconds", str(options.seconds)], cores))
        values = json.loads(inside.communicate()[0].splitlines()[-1])
    return Row(*values)


@contextmanager
def running(command: list[str], cores: set[int] | None) -> Iterator[subprocess.Popen[str]]:
    """A process, on some of the cores, that ends with the block."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if cores:
            os.sched_setaffinity(process.pid, cores)
        yield process
    finally:
        process.kill()
        process.wait()


def measure(artifact: Path, threads: int, seconds: float) -> Row:
    """Blocks of the network and the preparation of its image, kernels in between."""
    session = open_session(artifact, threads=threads)
    height, width = session.spec.image_size
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (100, 130, 3), dtype=np.uint8)
    image = cv2.imencode(".jpg", cv2.resize(coarse, (1300, 1000)))[1].tobytes()
    names = ("preprocess", "infer")
    turns: dict[str, list[dict[str, float]]] = {"clock": [], "own": [], "kernels": []}
    watch = Watch()
    for _ in range(3):
        session.run(np.zeros((1, height, width, 3), np.uint8))
        run_references(threads)
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(turns["own"]) < 6:
        turns["kernels"].append(run_references(threads))
        block = []
        for _ in range(RUNS):
            watch.start()
            pixels = resize(decode_image(image), (height, width))
            watch.stage(names[0])
            session.run(pixels[None])
            watch.stage(names[1])
            block.append(watch.stop(1))
        for kind, at in (("clock", 0), ("own", 1)):
            turns[kind].append({name: median(block, name, own=bool(at)) for name in names})
    return summary(turns, names)


def median(block: list[Any], name: str, *, own: bool) -> float:
    """Of a block's milliseconds, without the waiting where `own`."""
    waits = [(run[1] or {}).get(name, 0.0) if own else 0.0 for run in block]
    return float(np.median([run[0][name] - wait for run, wait in zip(block, waits, strict=True)]))


def summary(turns: dict[str, list[dict[str, float]]], names: tuple[str, ...]) -> Row:
    """Medians over the turns, the kernels' divided turn by turn."""
    kernels = np.array([list(turn.values()) for turn in turns["kernels"]])
    units = {name: np.log(kernels) @ np.array(w) for name, w in COMBINATIONS.items()}
    units["sum"] = np.log(kernels.sum(axis=1))

    def logs(kind: str, name: str) -> Any:
        return np.log([turn[name] for turn in turns[kind]])

    over = {
        unit: {name: float(np.median(logs("own", name) - values)) for name in names}
        for unit, values in units.items()
    }
    clock, own = (
        {name: float(np.median(logs(kind, name))) for name in names} for kind in ("clock", "own")
    )
    return Row(clock, own, over)


def show(state: str, load: float, row: Row) -> Row:
    """Print a row; the load is that of the whole machine before it."""
    print(f"{state:<30} load {load:4.1f}", end="")
    for name in row.own:
        clock, own, over = (np.exp(v[name]) for v in (row.clock, row.own, row.over["sum"]))
        print(f" | {name}: {clock:6.2f} ms, own {own:6.2f}, over the kernels {over:.3f}", end="")
    print(flush=True)
    return row


def strays(rows: list[Row], threads: int) -> None:
    """Standard deviations of the logarithm over all states."""
    print(f"\n{threads} threads, {len(rows)} processes; standard deviation of the logarithm:")
    for name in rows[0].own:
        columns = {
            "clock": [row.clock[name] for row in rows],
            "own": [row.own[name] for row in rows],
        }
        columns |= {f"/ {unit}": [row.over[unit][name] for row in rows] for unit in rows[0].over}
        text = ", ".join(f"{key} {np.std(values, ddof=1):.3f}" for key, values in columns.items())
        print(f"  {name}: {text}")
    print()


if __name__ == "__main__":
    main()
