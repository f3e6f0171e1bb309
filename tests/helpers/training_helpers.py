"""Small things that the tests of model, training and export share: images, datasets, configs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import onnx
import timm
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.torch import save_file

from generalad.config import Config
from generalad.model import anomaly_map
from generalad.model.detector import Detector
from generalad.model.heads import GeneralADHead
from generalad.model.storage import Trained

TINY = "test_vit"
"""A ViT of six blocks and width 64 that timm keeps for tests; its own size is 160."""

TINY_SETTINGS: dict[str, Any] = {
    "method": "generalad",
    "backbone": TINY,
    "layers": [2],
    "image_size": [64, 64],
    "hidden": 32,
    "top_k": 3,
    "epochs": 3,
    "batch_size": 4,
    "smoothing_sigma": 8.0,
    "smoothing_radius": 12,
}


def tiny_config(**changes: Any) -> Config:
    """Two blocks of a tiny ViT at 64 x 64, three epochs."""
    return Config().replaced({**TINY_SETTINGS, **changes})


def write_toml(path: Path, **changes: Any) -> Path:
    """The tiny configuration as a file."""
    lines = []
    for key, value in {**TINY_SETTINGS, **changes}.items():
        text = repr(value).replace("'", '"')
        lines.append(f"{key} = {text}")
    path.write_text("\n".join(lines) + "\n")
    return path


def body(name: str, seed: int = 0, **arguments: Any) -> torch.nn.Module:
    """A timm model with random, reproducible weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: torch.nn.Module = timm.create_model(name, **arguments).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # some start at zero, as layer scales do
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model


def save_weights(path: Path, model: torch.nn.Module) -> Path:
    """The state dict as safetensors."""
    save_file({k: v.clone().contiguous() for k, v in model.state_dict().items()}, path)
    return path


def part_image(rng: np.random.Generator, *, defect: bool = False) -> NDArray[np.uint8]:
    """A 72 x 80 RGB image of stripes, with a bright square where `defect`."""
    rows, columns = np.mgrid[0:72, 0:80]
    stripes = 110 + 40 * np.sin((rows + columns) / 6 + rng.uniform(0, 6))
    image = stripes[..., None] + rng.normal(0, 6, (72, 80, 3)) + np.array([0, 12, 25])
    if defect:
        image[24:44, 30:52] = 250
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def write_image(path: Path, image: NDArray[np.uint8]) -> Path:
    """As a file in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def write_parts(
    folder: Path, *, train: int = 16, good: int = 4, bad: int = 4, seed: int = 0
) -> Path:
    """A class folder with one type of defect and its masks."""
    rng = np.random.default_rng(seed)
    for index in range(train):
        write_image(folder / "train" / "good" / f"{index:03d}.png", part_image(rng))
    for index in range(good):
        write_image(folder / "test" / "good" / f"{index:03d}.png", part_image(rng))
    for index in range(bad):
        image = part_image(rng, defect=True)
        write_image(folder / "test" / "spot" / f"{index:03d}.png", image)
        mask = np.zeros((72, 80, 3), np.uint8)
        mask[24:44, 30:52] = 255
        write_image(folder / "ground_truth" / "spot" / f"{index:03d}_mask.png", mask)
    return folder


def images_of(folder: Path) -> list[Path]:
    """All image files below a folder."""
    return sorted(folder.rglob("*.png"))


def environment(**changes: str) -> dict[str, str]:
    """For subprocesses: this tree, and as many threads as here, because sums depend on them."""
    root = str(Path(__file__).parents[2])
    threads = str(torch.get_num_threads())
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": threads, **changes}


def start(
    arguments: Sequence[str], *, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """`gad` with these arguments, in a process of its own."""
    return start_python(
        "import sys; from generalad.cli import main; main(sys.argv[1:])", *arguments, env=env
    )


def start_python(
    code: str, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """A Python process that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(env) if env is not None else environment(),
    )


def interpolate_maps(
    model: onnx.ModelProto, trained: Trained, wrong: Callable[[int, int], NDArray[np.float64]]
) -> None:
    """Give an exported graph the map of another interpolation.

    Args:
        model: changed in place.
        trained: what it was exported from.
        wrong: gives the matrix (pixels, patches) to interpolate from patches to pixels with.
    """
    right, config = anomaly_map.bilinear, trained.detector.config
    weights = {item.name: item for item in model.graph.initializer}

    def changed(inputs: int, outputs: int) -> NDArray[np.float64]:
        return wrong(outputs, inputs) if inputs < outputs else right(inputs, outputs)

    with mock.patch.object(anomaly_map, "bilinear", changed):
        for axis, name in enumerate(("maps.rows", "maps.columns")):
            matrix = anomaly_map.axis_matrix(
                trained.detector.backbone.grid[axis],
                config.image_size[axis],
                trained.spec.map_size[axis],
                config.smoothing_sigma,
                config.smoothing_radius,
            ).astype(np.float32)
            value = np.ascontiguousarray(matrix.T if axis else matrix)
            weights[name].CopyFrom(numpy_helper.from_array(value, name))


def nearest(pixels: int, patches: int) -> NDArray[np.float64]:
    """(pixels, patches): each pixel has the value of its patch."""
    return np.repeat(np.eye(patches), pixels // patches, axis=0)


def aligned_corners(pixels: int, patches: int) -> NDArray[np.float64]:
    """(pixels, patches): linear, first and last pixel on the centres of the outer patches."""
    centres = np.linspace(0, patches - 1, pixels)
    return np.asarray(np.maximum(1 - np.abs(centres[:, None] - np.arange(patches)), 0))


def generalad_head(detector: Detector) -> GeneralADHead:
    """The head of a detector of that method."""
    assert isinstance(detector.head, GeneralADHead)
    return detector.head
