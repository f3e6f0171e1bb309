"""Where a run on the GPU spends its time, as `gad bench` tells it, and what the telling costs.

upload, infer, download  Median milliseconds of a batch by `Session.stages`. What they are made of
          stands with the sessions: CUDA events within the graph for native TensorRT
          (`trt._TimedRunner`), the processor's clock for ONNX Runtime (`ort._TimedBound`).
timed, plain  Median milliseconds of `Session.run` by the processor's clock, of the session that
          tells its stages and of one that does not, which run in turns. `timed` less the three
          stages is launching and waking up; `timed` less `plain` is what the gate adds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from gpu_ways import Images, Row, phrase

from generalad.runtime.backends.session import STAGES

WARM_UP = 5
COLUMNS = (*STAGES, "timed", "plain")


def stages(
    rows: Sequence[Row], size: tuple[int, int], batches: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """Of every way that is an artifact and runs, at every batch size that it took."""
    found: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    for row in rows:
        if row.session is None or row.opened is None:
            continue
        try:
            with row.opened() as plain, row.opened(timed=True) as timed:
                for batch in batches:
                    if batch not in row.failed:
                        images = rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8)
                        times = medians(plain, timed, images, rounds)
                        found.append({"way": row.name, "batch": batch, **times})
        except Exception as error:  # such as too little memory for two sessions more
            found.append({"way": row.name, "why": phrase(error)})
    return found


def medians(plain: Any, timed: Any, images: Images, rounds: int) -> dict[str, float]:
    """Milliseconds by column; the first rounds warm up."""
    samples: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for _ in range(WARM_UP + rounds):
        samples["plain"].append(wall(plain, images))
        before = dict(timed.stages)
        samples["timed"].append(wall(timed, images))
        for stage in STAGES:
            samples[stage].append(timed.stages[stage] - before[stage])
    return {name: statistics.median(values[WARM_UP:]) for name, values in samples.items()}


def wall(session: Any, images: Images) -> float:
    """Milliseconds of one run, which returns when the device is done."""
    began = time.perf_counter()
    session.run(images)
    return 1e3 * (time.perf_counter() - began)


def table(found: Sequence[dict[str, Any]]) -> None:
    """Print all of them."""
    print(f"| stages of a run, ms | batch | {' | '.join(COLUMNS)} |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for one in found:
        if "why" in one:
            print(f"| {one['way']:<23} |{' |' * len(COLUMNS)} {one['why']} |")
            continue
        times = " | ".join(f"{one[name]:.3f}" for name in COLUMNS)
        print(f"| {one['way']:<23} | {one['batch']} | {times} |")
    print(flush=True)
