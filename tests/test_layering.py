"""The runtime half of the package starts without the training half's libraries."""

from __future__ import annotations

import pytest
from import_helpers import BLOCKED, import_all


@pytest.mark.parametrize(
    "module",
    [
        "runtime",
        "metrics",
        "data",
        "spec",
        "preprocess",
        "config",
        "overlay",
        "decision",
        "synth",
        "cli",
        "bench",
    ],
)
def test_imports_without_the_training_side(module: str) -> None:
    loaded = import_all([f"generalad.{module}"], BLOCKED)
    assert f"generalad.{module}" in loaded
    assert not [name for name in loaded if name.startswith(("generalad.model", "generalad.train"))]


def test_runtime_imports_only_its_layer() -> None:
    loaded = import_all(["generalad.runtime"], ("onnxruntime", "rich", "typer", *BLOCKED))
    own = {name for name in loaded if name.startswith("generalad.")}
    shared = (
        "calibration",
        "errors",
        "files",
        "decision",
        "overlay",
        "image_statistics",
        "preprocess",
        "spec",
        "synth",
    )
    allowed = {f"generalad.{name}" for name in shared}
    assert {name for name in own if not name.startswith("generalad.runtime")} == allowed


def test_command_line_loads_nothing_heavy() -> None:
    loaded = import_all(["generalad.cli"], BLOCKED)
    assert not loaded & {"numpy", "cv2", "onnxruntime"}
