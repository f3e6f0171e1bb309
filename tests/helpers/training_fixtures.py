"""A pytest plugin with what is made once a session: weights, a dataset, a detector, an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_helpers import TINY, body, save_weights, tiny_config, write_parts

from generalad.export.export import Exported, export_detector
from generalad.model.storage import Trained, load_detector
from generalad.training.train import train_detector


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a tiny ViT, saved at its own size of 160."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return save_weights(path, body(TINY))


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder: 16 good images to train on, 4 good and 4 bad ones to test with."""
    return write_parts(tmp_path_factory.mktemp("data") / "parts")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature cache that the tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def run_folder(
    tmp_path_factory: pytest.TempPathFactory, parts: Path, tiny_weights: Path, cache: Path
) -> Path:
    """The folder of a detector trained on `parts`; only to be read."""
    folder = tmp_path_factory.mktemp("runs") / "parts"
    train_detector(parts, folder, tiny_config(), weights=tiny_weights, cache=cache)
    return folder


@pytest.fixture(scope="session")
def trained(run_folder: Path) -> Trained:
    """The detector in `run_folder`, loaded."""
    return load_detector(run_folder)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> Exported:
    """`trained` as an ONNX file."""
    return export_detector(trained, tmp_path_factory.mktemp("export") / "model.onnx")


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A word for each time that torch captures a graph: where it fails, the exporter tries again.

    The second way takes several times as long. `len` of a tensor makes the first one fail, for it
    turns a free axis into a number.
    """
    found: list[str] = []
    export = torch.export.export

    def captured(*given: Any, **options: Any) -> Any:
        found.append("again" if found else "once")
        return export(*given, **options)

    monkeypatch.setattr(torch.export, "export", captured)
    return found
