"""What half precision of this processor gives, and how far it is from what the processor can do.

    python benchmarks/half_precision.py MODEL [--data DIR] [--images N] [--rounds N] [--int8]

Trains a detector for a few epochs, exports it to OpenVINO through the gate, and times one file in
every precision that this processor has units for, in turns, at batch 1 and 8. Between them large
matrix products run in OpenVINO in the same precisions: the fastest of them is the limit. Prints
what passed the gate; a row a precision: milliseconds, times as fast as float32 with the 95 %
interval, share of the limit; and where the time goes, by kind of operation. Without weights the
backbone is random. ONEDNN_MAX_CPU_ISA and OV_CPU_MAX_ISA hide units of the processor.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from export import MODELS, drawn, flops, train
from generalad.bench.machine import describe_machine
from generalad.config import PRESETS
from generalad.errors import GateError
from generalad.export.export import Exported, export_detector
from generalad.runtime import Session, open_session
from generalad.runtime.backends.ov import HINTS, half_units
from generalad.statistics import quantile_estimate
from generalad.training.train import train_detector

BATCHES = (1, 8)
PRODUCTS = ((1024, 1024, 1024), (2048, 2048, 2048), (2048, 1024, 4096))
"""Rows, depth and columns of the products that the limit is the fastest of."""


def main() -> None:
    """Train, export, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=[*MODELS, "edge"])
    parser.add_argument("--data", type=Path, help="dataset with test images (default: drawn)")
    parser.add_argument("--weights", type=Path, help="of the backbone (default: random)")
    parser.add_argument("--images", type=int, default=32, help="good images, half to calibrate")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--int8", action="store_true", help="eight bits too")
    parser.add_argument("--folder", type=Path, help="where what was made before is found again")
    options = parser.parse_args()
    units = half_units(openvino.Core())
    machine = describe_machine()
    print(f"{machine.cpu}, {machine.architecture}, {machine.cores} cores; units: {units or 'none'}")
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        data = options.data or drawn(folder / "data", options.images)
        if options.model == "edge":  # its weights come with a package
            config = PRESETS["edge"].replaced({"calibration_fraction": 0.5, "shots": 0})
            trained = train_detector(data, folder / "run", config, cache=folder / "cache")
        else:
            trained = train(options, data, folder)
        work = flops(trained)
        rows: dict[str, Session] = {}
        for kind in ("fp16", "int8")[: 1 + options.int8]:
            path = folder / f"{kind}.xml"
            try:
                if not path.exists():
                    data = options.data
                    say(export_detector(trained, path, format="openvino", precision=kind,
                                        verify_on=data))  # fmt: skip
            except GateError as error:
                print(f"{kind}: {error}")
                continue
            for precision in ("fp32", *units):
                rows[f"{kind} file in {precision}"] = open_session(path, precision=precision)
            profile(path, ("fp32", *units), trained.spec.image_size)
        measured(rows, work, trained.spec.image_size, options.rounds, ("fp32", *units))


def say(done: Exported) -> None:
    """What the gate said."""
    for one in done.refused:
        print(f"refused {one.name}: {one.reasons[0][:160]}")
    print(f"{done.path.name}: {done.name}")
    if done.half is not None:
        print(f"  {done.half.parity['candidate']}: {done.half.in_words()}")
        found = done.half.parity
        print(
            f"  scores within {found['score_largest']:.2g} of their range,"
            f" {found['flips']} of {found['images']} decisions differ"
        )
    if done.not_verified:
        print(f"  {done.not_verified}")


def product(size: tuple[int, int, int], precision: str) -> tuple[Callable[[], Any], float]:
    """A large product as OpenVINO runs it with constant weights, and its operations."""
    rows, depth, columns = size
    rng = np.random.default_rng(0)
    given = ops.parameter([rows, depth], np.float32)
    weights = ops.constant(rng.standard_normal((columns, depth), np.float32))
    found = ops.reduce_max(
        ops.matmul(given, weights, transpose_a=False, transpose_b=True), np.array([1])
    )
    compiled = openvino.Core().compile_model(
        openvino.Model([found], [given]),
        "CPU",
        {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[precision]},
    )
    request = compiled.create_infer_request()
    values = rng.standard_normal((rows, depth), np.float32)
    return partial(request.infer, {0: values}), 2.0 * rows * depth * columns


def measured(
    rows: dict[str, Session],
    work: float,
    size: tuple[int, int],
    rounds: int,
    precisions: tuple[str, ...],
) -> None:
    """Everything in turns, and the table."""
    products = {(p, s): product(s, p) for p in precisions for s in PRODUCTS}
    seconds: dict[Any, list[float]] = defaultdict(list)
    rng = np.random.default_rng(0)
    images = {n: rng.integers(0, 256, (n, *size, 3), dtype=np.uint8) for n in BATCHES}
    for number in range(rounds):
        for key, (run, _) in products.items():
            seconds[key].append(timed(run))
        for label, session in rows.items():
            for batch in BATCHES:
                if batch == 1 or number % 3 == 0:
                    seconds[label, batch].append(timed(partial(session.run, images[batch])))
    limits = {
        p: max(products[p, s][1] / statistics.median(seconds[p, s]) for s in PRODUCTS)
        for p in precisions
    }
    for precision, limit in limits.items():
        print(f"limit in {precision}: {limit / 1e9:.0f} GFLOP/s")
    print(f"{work / 1e9:.1f} GFLOP an image")
    print("| | ms, batch 1 | x fp32 | share of limit | ms an image, batch 8 | x fp32 | share |")
    print("|---|---|---|---|---|---|---|")
    for label in rows:
        precision = label.rsplit(" ", 1)[1]
        reference = label.replace(f"in {precision}", "in fp32")
        cells = []
        for batch in BATCHES:
            own = seconds[label, batch]
            ratios = [a / b for a, b in zip(seconds[reference, batch], own, strict=True)]
            found = quantile_estimate(ratios, 0.5)
            interval = f" ({found.low:.2f} to {found.high:.2f})" if found and found.low else ""
            middle = statistics.median(own) / batch
            share = work / middle / limits[precision]
            cells.append(
                f"{1e3 * middle:.1f} | {statistics.median(ratios):.2f}{interval} | {share:.2f}"
            )
        print(f"| {label} | {' | '.join(cells)} |")


def timed(run: Callable[[], Any]) -> float:
    """Seconds of a run that follows another one, whose threads are awake."""
    run()
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def profile(path: Path, precisions: tuple[str, ...], size: tuple[int, int]) -> None:
    """Where the time of one image goes, by kind of operation, fastest of ten runs."""
    core = openvino.Core()
    image = np.zeros((1, *size, 3), np.uint8)
    for precision in precisions:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "PERF_COUNT": True,
        }
        request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
        best: dict[str, tuple[float, int]] = {}
        whole = float("inf")
        for _ in range(10):
            request.infer({0: image})
            kinds: dict[str, tuple[float, int]] = {}
            for one in request.get_profiling_info():
                spent, count = kinds.get(one.node_type, (0.0, 0))
                spent += one.real_time.total_seconds() * 1e3
                kinds[one.node_type] = spent, count + (one.real_time.total_seconds() > 0)
            if sum(spent for spent, _ in kinds.values()) < whole:
                best, whole = kinds, sum(spent for spent, _ in kinds.values())
        parts = sorted(best.items(), key=lambda item: -item[1][0])
        words = ", ".join(f"{n} {kind} {ms:.2f}" for kind, (ms, n) in parts if ms > 0.002 * whole)
        print(f"  ms in {precision}, {whole:.1f} in all: {words}")


if __name__ == "__main__":
    main()
