"""A pytest plugin: the doubles of TensorRT 10 and 11 and of CUDA in the place of the libraries."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import MakeArtifact
from cuda_double import CudaDouble
from tensorrt_double import World
from tensorrt_helpers import Install, make_golden


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """`install(major, version=None)`: put the doubles where the libraries would be."""

    def put(major: int, version: str | None = None) -> World:
        world = World(major, CudaDouble(), version)
        monkeypatch.setitem(sys.modules, "tensorrt", world.module())
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", world.cuda.module())
        return world

    return put


@pytest.fixture(params=[10, 11])
def world(request: pytest.FixtureRequest, install: Install) -> World:
    return install(request.param)


@pytest.fixture
def model(tmp_path: Path, make_artifact: MakeArtifact) -> Path:
    """An ONNX artifact with golden samples; its score is the brightest part's brightness."""
    return make_golden(tmp_path, make_artifact)
