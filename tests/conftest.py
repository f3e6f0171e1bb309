"""Fixtures that several test files share: specs, tiny ONNX artifacts, images and videos."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from tiny_artifacts import tiny_artifact

from generalad.runtime.backends.fake import fake_spec
from generalad.spec import Spec

settings.register_profile("gad", deadline=None)  # a busy machine is no failure
settings.load_profile("gad")

if threading.current_thread() is threading.main_thread():
    # A shell's `&` has Ctrl-C ignored, here and in all processes that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

MakeSpec = Callable[..., Spec]
MakeArtifact = Callable[..., Path]


@pytest.fixture
def signals() -> None:
    """For a test of what a signal does in its own process: that is for the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread alone, and this worker's tests run beside it")


@pytest.fixture
def make_spec() -> MakeSpec:
    """`make_spec(**changes)`: the spec of a 64 x 64 detector with 16 x 16 maps."""

    def make(**changes: Any) -> Spec:
        return dataclasses.replace(fake_spec(), **changes)

    return make


@pytest.fixture
def make_artifact(make_spec: MakeSpec) -> MakeArtifact:
    """`make_artifact(folder, **spec_changes) -> Path` of a tiny ONNX artifact.

    Its map is the local mean brightness / 255 and its score the largest map value. Keywords besides
    the spec's fields: `name` of the file, `batch` (an int fixes it), `metadata` (None leaves the
    spec out, a string replaces it), `outputs` (other names for the outputs).
    """

    def make(folder: Path, *, name: str = "model.onnx", **changes: Any) -> Path:
        given = {key: changes.pop(key) for key in {"batch", "metadata", "outputs"} & changes.keys()}
        return tiny_artifact(folder / name, make_spec(**changes), **given)

    return make


Image = NDArray[np.uint8]
MakeImage = Callable[..., Image]
WriteImage = Callable[[Path, Image], Path]
WriteVideo = Callable[[Path, list[Image]], Path]


@pytest.fixture
def make_image() -> MakeImage:
    """`make_image(brightness, spot=None, size=(48, 64))`: an even RGB image, with a bright spot."""

    def make(
        brightness: int, *, spot: int | None = None, size: tuple[int, int] = (48, 64)
    ) -> Image:
        image = np.full((*size, 3), brightness, np.uint8)
        if spot is not None:
            image[8:24, 16:32] = spot
        return image

    return make


@pytest.fixture
def write_image() -> WriteImage:
    """`write_image(path, make_image)`: an RGB image as a file; folders are made."""

    def write(path: Path, image: Image) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return path

    return write


@pytest.fixture
def write_video() -> WriteVideo:
    """`write_video(path, frames)`: (H, W, 3) RGB frames at 10 a second, as .avi or .mp4."""

    def write(path: Path, frames: list[Image]) -> Path:
        code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
        height, width = frames[0].shape[:2]
        writer = cv2.VideoWriter(str(path), code, 10.0, (width, height))
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
        return path

    return write
