"""Formats and precisions of one model side by side: equal to the detector, how large, how fast.

    python benchmarks/export.py MODEL [--data DIR] [--weights FILE] [--images N] [--rounds N]

Trains a detector for a few epochs, exports it in every format and precision that this machine can
run, and times all artifacts and the detector in turns, so that a busy machine slows all of them
alike. The share is that of the machine's own float32 matrix product, measured in the same rounds.
Without weights the backbone is random (no download): speed is that of the real one, and what
eight bits cost is only an indication. Prints a row for each artifact: size, milliseconds, ratios,
parity. Takes minutes for the embedded backbone, and longer the larger another one is.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from generalad.config import EMBEDDED, PRESETS, Config
from generalad.errors import GateError
from generalad.export.export import Exported, export_detector
from generalad.model.session import TorchSession
from generalad.model.storage import Trained
from generalad.model.weights import build_body
from generalad.runtime import Session, open_session
from generalad.synth import write_dataset
from generalad.training.train import train_detector

MODELS: dict[str, Config] = {
    "embedded": PRESETS[EMBEDDED],
    "vit_small": PRESETS["small"].replaced({"image_size": 224}),
    "vit_base": PRESETS["base"].replaced({"image_size": 392}),
    "vit_large": PRESETS["large"],
    "wide_resnet": PRESETS["small"].replaced(
        {"backbone": "wide_resnet50_2.tv_in1k", "layers": [2, 3], "image_size": 224}
    ),
}
WAYS = [(form, kind) for form in ("onnx", "openvino") for kind in ("fp32", "fp16", "int8")]
MATRIX = 2048
PAUSE = 0.25
"""Seconds: OpenMP's threads wait actively for 0.2."""


@dataclass
class Row:
    """One way to run the model."""

    name: str
    session: Session | None
    megabytes: float
    note: str
    seconds: dict[int, list[float]]


def main() -> None:
    """Train, export, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--data", type=Path, help="dataset with test images (default: drawn)")
    parser.add_argument("--weights", type=Path, help="of the backbone (default: random)")
    parser.add_argument("--images", type=int, default=80, help="good images, half to calibrate")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = options.data or drawn(folder / "data", options.images)
        trained = train(options, data, folder)
        rows = [Row("torch eager", TorchSession(trained), 0.0, "", {})]
        for form, kind in WAYS:
            rows.append(exported(trained, form, kind, options.data))
        ceiling = timed(rows, trained, options.rounds)
        table(rows, ceiling, flops(trained))


def drawn(folder: Path, images: int) -> Path:
    """Washers that nobody trained a backbone on."""
    return (
        write_dataset(
            folder, categories=["washer"], train=images, test_good=0, per_defect=0, seed=11
        )
        / "washer"
    )


def train(options: argparse.Namespace, data: Path, folder: Path) -> Trained:
    """A detector whose scores mean something, in little time."""
    config = MODELS[options.model].replaced(
        {"epochs": options.epochs, "calibration_fraction": 0.5, "shots": 0}
    )
    weights = options.weights
    if weights is None and config.backbone != EMBEDDED:
        torch.manual_seed(0)
        weights = folder / "random.safetensors"
        body = build_body(config.backbone, config.image_size)
        for name, parameter in body.named_parameters():
            if name.endswith(".gamma"):  # layer scales start at 1e-5: blocks would have no effect
                parameter.data.fill_(0.2)
        save_file({k: v.contiguous() for k, v in body.state_dict().items()}, weights)
    return train_detector(data, folder / "run", config, weights=weights, cache=folder / "cache")


def exported(trained: Trained, form: str, kind: str, data: Path | None) -> Row:
    """One artifact, or why there is none."""
    name = f"{form} {kind}"
    try:
        done = export_detector(trained, format=form, precision=kind, verify_on=data)
    except GateError as error:
        print(f"{name}: {error}", flush=True)
        return Row(name, None, 0.0, "refused", {})
    files = [done.path, done.path.with_suffix(".bin")] if form == "openvino" else [done.path]
    size = sum(file.stat().st_size for file in files) / 1e6
    return Row(name, open_session(done.path), size, parity(done), {})


def parity(done: Exported) -> str:
    """What the gate found, in short."""
    worst = max(item.score_largest for item in done.parity.sets)
    lost = max((item.auroc[0] - item.auroc[1] for item in done.parity.sets[1:]), default=0.0)
    flips = sum(item.flips for item in done.parity.sets)
    images = sum(item.images for item in done.parity.sets)
    return f"{done.name}; {worst:.1e}; {100 * lost:+.2f}; {flips}/{images}"


def timed(rows: list[Row], trained: Trained, rounds: int) -> list[float]:
    """Run everything in turns; returns the seconds of the matrix product in each round."""
    matrix = torch.rand(MATRIX, MATRIX)
    height, width = trained.spec.image_size
    rng = np.random.default_rng(0)
    products = []
    for batch in (1, 8):
        images = rng.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
        running = [row for row in rows if row.session is not None]
        for row in running:
            row.seconds[batch] = []
            row.session.run(images)  # type: ignore[union-attr]
        for _ in range(rounds if batch == 1 else max(3, rounds // 3)):
            products.append(seconds(lambda: matrix @ matrix))
            for row in running:
                row.seconds[batch].append(seconds(partial(row.session.run, images)))  # type: ignore[union-attr]
    return products


def seconds(function: Callable[[], Any]) -> float:
    """Of one call, after a pause and another call: threads of the one before spin and disturb."""
    time.sleep(PAUSE)
    function()
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def flops(trained: Trained) -> float:
    """Of one image: products and convolutions, two for a multiplication and an addition."""
    images = torch.from_numpy(trained.calibration_images()[:1])
    detector = copy.deepcopy(trained.detector)
    for part in detector.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False  # type: ignore[assignment]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        detector(images)
    return float(counter.get_total_flops())


def table(rows: list[Row], products: list[float], work: float) -> None:
    """Medians, ratios of pairs, and shares of the ceiling."""
    ceiling = 2 * MATRIX**3 / statistics.median(products)
    eager = rows[0]
    print(f"{work / 1e9:.1f} GFLOP an image, {ceiling / 1e9:.0f} GFLOP/s in a float32 product,")
    print(f"{torch.get_num_threads()} threads; what was done; largest score difference in units of")
    print("the spread; points of image AUROC lost; decisions that differ")
    print(f"| {'':<14} | MB | ms, batch 1 | ms an image, batch 8 | x eager, 1 | x eager, 8 |"
          " share of ceiling, 1 | parity |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        if row.session is None:
            print(f"| {row.name:<14} | | | | | | | {row.note} |")
            continue
        one, eight = (statistics.median(row.seconds[batch]) for batch in (1, 8))
        ratios = [
            statistics.median(a / b for a, b in zip(eager.seconds[n], row.seconds[n], strict=True))
            for n in (1, 8)
        ]
        print(
            f"| {row.name:<14} | {row.megabytes:.1f} | {one * 1e3:.1f} | {eight / 8 * 1e3:.1f} |"
            f" {ratios[0]:.2f} | {ratios[1]:.2f} | {work / one / ceiling:.2f} | {row.note} |"
        )


if __name__ == "__main__":
    main()
