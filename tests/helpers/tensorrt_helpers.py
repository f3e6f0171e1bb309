"""What the tests of TensorRT share besides fixtures: artifacts, images, comparisons."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import MakeArtifact
from numpy.typing import NDArray
from tensorrt_double import World

from generalad.errors import (
    ArtifactError,
)
from generalad.export.to_tensorrt import (
    EngineOptions,
)
from generalad.runtime.backends.session import Session
from generalad.runtime.backends.trt import TrtSession
from generalad.spec import GoldenSample

Install = Callable[..., World]
OPTIONS = EngineOptions(batch=(1, 2, 4))


def make_golden(folder: Path, make_artifact: MakeArtifact, **changes: Any) -> Path:
    samples = []
    for level in (0, 51, 204):
        _, png = cv2.imencode(".png", np.full((64, 64, 3), level, np.uint8))
        value = float(np.float32(level) / np.float32(255))
        samples.append(GoldenSample(base64.b64encode(png.tobytes()).decode(), value, value))
    return make_artifact(folder, **{"golden": tuple(samples), "parity": {"spread": 0.5}, **changes})


def random_images(batch: int) -> NDArray[np.uint8]:
    return np.random.default_rng(batch).integers(0, 256, (batch, 64, 64, 3), np.uint8)


def same(one: Session, other: Session, images: NDArray[np.uint8]) -> None:
    for found, expected in zip(one.run(images), other.run(images), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)


def refused(path: Path, words: str) -> None:
    """Opening fails in one line with the command that builds the engine again."""
    with pytest.raises(ArtifactError, match=words) as caught:
        TrtSession(path)
    assert "\n" not in str(caught.value)
    assert f"gad export {path.with_suffix('.onnx')} --format tensorrt" in caught.value.remedy


def change_record(path: Path, **changes: Any) -> None:
    """Alter the JSON beside an engine; `machine` is merged."""
    file = path.with_name(f"{path.name}.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    machine = record["machine"] | changes.pop("machine", {})
    file.write_text(json.dumps(record | changes | {"machine": machine}), encoding="utf-8")
