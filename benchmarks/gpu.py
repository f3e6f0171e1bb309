"""Everything that runs on an NVIDIA GPU, side by side: how fast, how near the ceiling, how equal.

    python benchmarks/gpu.py [MODEL ...] [--data DIR] [--weights FILE] [--images N]
                             [--batches 1,8,16] [--rounds N] [--json FILE]

Trains a detector for a few epochs, exports it in every way that this machine can run, and times all
ways in turns. What is missing or refused is a row that says why. Exit code 1 only without CUDA.

ms, p95   Median and 95th percentile over the rounds of one run of one batch. One round runs the
          matrix product and then every way once, so that a change of clocks meets all; the first
          WARM_UP rounds are not counted. The column `clock` says how a run was timed. `events`:
          from one CUDA event to another on the stream of that way (torch, native TensorRT with a
          CUDA graph), around copying images from pinned memory to the GPU, the network, and
          copying scores and maps back; for torch that includes waiting for the CPU to launch.
          `wall`: the processor's clock around `Session.run` with the device synchronised before and
          after (ONNX Runtime, which owns its stream), which adds copies between arrays.
images/s  Batch / median wall time of `Session.run`, for every way, so that all rows compare.
share     GFLOP an image (products and convolutions of the float32 detector, two for each
          multiply-add) * batch / ms, over that of torch.matmul of two 8192 x 8192 float16 matrices:
          median of its event times in the rounds of the same batch. TF32 is off everywhere.
parity    What was done to the graph; largest score difference in units of the spread; points of
          image AUROC lost; decisions that differ / images. As the export's gate found it. For
          torch in float16 and ONNX Runtime's TensorRT provider, which the gate does not run: the
          same comparison with the float32 detector on this GPU.
training  Seconds of `fit` for one epoch from features in memory, median of EPOCHS after one more
          that is not counted; and of `cached_features` for all training images, files read and
          written, in a process whose GPU is warm.

stages    A second table, where the time of each artifact's runs goes. `upload`, `infer` and
          `download`: median milliseconds of a batch by `Session.stages`. `timed` and `plain`: of
          `Session.run` by the processor's clock, of the session that tells its stages and of one
          that does not, in turns. `timed` less the three is launching and waking up.

Engines hold batches from 1 to the largest, tuned for 1, as the provider's do. Without weights the
backbone is random: speed is that of the real one, what a precision costs is only an indication.
The float32 reference of each export runs on the processor: minutes for vit_large, see --images.
Takes five to ten minutes a model.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from gpu_ways import DEVICE, Events, Images, Row, Sample, phrase, print_stages, stages, ways
from torch import Tensor

from export import MODELS, drawn, flops, train
from generalad.model.heads import GeneralADHead
from generalad.model.storage import Trained
from generalad.runtime import Session
from generalad.training.cache import cached_features
from generalad.training.distortions import NEEDS_ATTENTION
from generalad.training.loop import fit
from generalad.training.precision import training_dtype
from generalad.training.split import split_dataset

MATRIX = 8192
WARM_UP = 5
EPOCHS = 5
now = time.perf_counter


def main(arguments: Sequence[str] | None = None) -> int:
    """One table a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    defaults = ["embedded", "vit_small", "vit_large"]
    parser.add_argument("models", nargs="*", default=defaults, help=f"of {', '.join(MODELS)}")
    parser.add_argument("--data", type=Path, help="dataset with test images (default: drawn)")
    parser.add_argument("--weights", type=Path, help="of one MODEL's backbone (default: random)")
    parser.add_argument("--images", type=int, default=80, help="good images, half to calibrate")
    parser.add_argument("--batches", type=sizes, default=[1, 8, 16])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", type=Path, help="write all figures there too")
    options = parser.parse_args(arguments)
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"unknown model {min(unknown)}, choose of {', '.join(MODELS)}")
    if options.weights and len(options.models) != 1:
        parser.error("--weights fits one MODEL; name it")
    if not torch.cuda.is_available():
        print("no CUDA: this needs an NVIDIA GPU, its driver and a CUDA build of torch")
        return 1
    # Torch's default for convolutions is TF32.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    results, facts = [], versions()
    for name in options.models:
        try:
            result = {"model": name, **facts, **measured(name, options)}
            table(result)
        except Exception as error:  # such as weights that are not of this model
            result = {"model": name, **facts, "why": phrase(error)}
            print(f"{name}: {result['why']}", flush=True)
        results.append(result)
        torch.cuda.empty_cache()
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def sizes(text: str) -> list[int]:
    """Batches such as "1,8,16"."""
    found = sorted({int(part) for part in text.split(",")})
    if found[0] < 1:
        raise ValueError(text)
    return found


def versions() -> dict[str, str]:
    """What the figures depend on."""
    major, minor = torch.cuda.get_device_capability()
    facts = {"GPU": torch.cuda.get_device_name(), "compute capability": f"{major}.{minor}"}
    query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        answer = subprocess.run(query, check=True, capture_output=True, text=True).stdout
        facts["driver"] = answer.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        facts["driver"] = "unknown"
    for module in ("torch", "onnxruntime", "tensorrt"):
        try:
            facts[module] = str(importlib.import_module(module).__version__)
        except Exception:  # a library that is there and cannot be loaded raises anything
            facts[module] = "none"
    return facts


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one model."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        os.environ["GAD_CACHE"] = place  # where ONNX Runtime's provider keeps its engines
        data = options.data or drawn(folder / "data", options.images)
        wanted = argparse.Namespace(model=name, weights=options.weights, epochs=3)
        trained = train(wanted, data, folder)
        speed = training(trained, data, folder / "filled")
        counted = copy.deepcopy(trained.detector).cpu()  # counting alters its attention
        work = flops(dataclasses.replace(trained, detector=counted))
        rows = ways(trained, options, folder)
        size = trained.spec.image_size
        products = timed(rows, size, options.batches, options.rounds)
        told = stages(rows, size, options.batches, options.rounds)
        for row in rows:
            if row.session is not None:
                row.session.close()
    figured = [figures(row, products, work) for row in rows]
    return {"gflop": work / 1e9, "training": speed, "rows": figured, "stages": told}


def training(trained: Trained, data: Path, folder: Path) -> dict[str, Any]:
    """Seconds to fill the cache and for an epoch from it."""
    detector = copy.deepcopy(trained.detector).to(DEVICE)
    config = detector.config.replaced({"epochs": 1})
    split = split_dataset(data, config, skip_bad=False)
    paths = [sample.path for sample in split.train]
    began = now()
    features = cached_features(
        paths,
        [split.hashes[path] for path in paths],
        detector.backbone,
        identity={},
        image_size=config.image_size,
        attention=bool(NEEDS_ATTENTION & set(config.distortions)),
        device=DEVICE,
        folder=folder,
    )
    fill = now() - began
    features = dataclasses.replace(features, whitening=cast(GeneralADHead, detector.head).whitening)
    seconds = []
    for _ in range(1 + EPOCHS):
        torch.cuda.synchronize()
        began = now()
        fit(cast(GeneralADHead, detector.head).discriminator, features, config, device=DEVICE)
        torch.cuda.synchronize()
        seconds.append(now() - began)
    dtype = str(training_dtype(DEVICE)).removeprefix("torch.")
    epoch = statistics.median(seconds[1:])
    facts = {"images": len(paths), "batch": config.batch_size, "dtype": dtype}
    return {**facts, "epoch_seconds": epoch, "fill_seconds": fill}


def timed(
    rows: list[Row], size: tuple[int, int], batches: Sequence[int], rounds: int
) -> dict[int, list[float]]:
    """Run everything in turns; returns the matrix product's milliseconds for each batch."""
    matrix = torch.rand(MATRIX, MATRIX, device=DEVICE).half()
    rng = np.random.default_rng(0)
    products: dict[int, list[float]] = {}
    for batch in batches:
        images = rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8)
        products[batch] = []
        for turn in range(-WARM_UP, rounds):
            spent = product(matrix)
            if turn >= 0:
                products[batch].append(spent)
            for row in rows:
                if row.session is None or batch in row.failed:
                    continue
                try:
                    sample = measure(row.session, row.events, images)
                except Exception as error:  # such as too little memory for this batch
                    row.failed[batch] = phrase(error)
                    continue
                if turn >= 0:
                    row.samples.setdefault(batch, []).append(sample)
    return products


def product(matrix: Tensor) -> float:
    """Milliseconds of one product, between events."""
    events = Events()
    events.around(torch.matmul)(matrix, matrix)
    torch.cuda.synchronize()
    return events.milliseconds()


def measure(session: Session, events: Events | None, images: Images) -> Sample:
    """One run."""
    if events is not None:
        events.recorded = False
    torch.cuda.synchronize()
    began = now()
    session.run(images)
    torch.cuda.synchronize()
    wall = 1e3 * (now() - began)
    if events is None or not events.recorded:  # an engine that runs without a CUDA graph
        return Sample(wall, wall, "wall")
    return Sample(events.milliseconds(), wall, "events")


def figures(row: Row, products: dict[int, list[float]], work: float) -> dict[str, Any]:
    """What the table and the JSON say of a row; `work` is in FLOP an image."""
    result: dict[str, Any] = {"way": row.name, "note": row.note, "runs": row.session is not None}
    if row.done is not None:
        result |= {"candidate": row.done.name, "parity": row.done.parity.to_dict()}
    result["batches"] = []
    for batch, spent in products.items() if row.session is not None else ():
        if batch in row.failed:
            result["batches"].append({"batch": batch, "why": row.failed[batch]})
            continue
        times = [sample.ms for sample in row.samples[batch]]
        median, ceiling = statistics.median(times), 2 * MATRIX**3 / statistics.median(spent)
        result["batches"].append(
            {
                "batch": batch,
                "ms": median,
                "p95_ms": float(np.percentile(times, 95)),
                "clock": "/".join(sorted({sample.clock for sample in row.samples[batch]})),
                "images_per_s": 1e3 * batch / statistics.median(s.wall for s in row.samples[batch]),
                "share": work * batch / median / ceiling,
                "ceiling_tflops": ceiling / 1e9,
            }
        )
    return result


def table(result: dict[str, Any]) -> None:
    """Print one model."""
    facts = ("GPU", "compute capability", "driver", "torch", "onnxruntime", "tensorrt")
    speed = result["training"]
    print(f"{result['model']}: {', '.join(f'{fact} {result[fact]}' for fact in facts)},", end=" ")
    print(f"{result['gflop']:.1f} GFLOP an image")
    print(f"training: {speed['epoch_seconds']:.3f} s an epoch from cached features in", end=" ")
    print(f"{speed['dtype']} ({speed['images']} images, batch {speed['batch']});", end=" ")
    print(f"{speed['fill_seconds']:.2f} s to fill the cache")
    print("| way | batch | ms | p95 ms | clock | images/s | share | what was done; largest score"
          " difference, of spread; AUROC points lost; decisions that differ |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for row in result["rows"]:
        note = row["note"]
        if not row["runs"]:
            print(f"| {row['way']:<23} | | | | | | | {note} |")
        for one in row["batches"]:
            start = f"| {row['way']:<23} | {one['batch']}"
            if "why" in one:
                print(f"{start} | | | | | | {one['why']} |")
                continue
            print(f"{start} | {one['ms']:.2f} | {one['p95_ms']:.2f} | {one['clock']}", end=" | ")
            print(f"{one['images_per_s']:.0f} | {one['share']:.2f} | {note} |")
    print(flush=True)
    print_stages(result["stages"])


if __name__ == "__main__":
    sys.exit(main())
