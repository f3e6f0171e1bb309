"""The runtime half of the package starts without the training half's libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCKED = ("torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors")

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in {blocked}:
    sys.modules[name] = None
for name in {modules}:
    module = importlib.import_module(name)
    for child in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
        importlib.import_module(child.name)
print(*sorted(name for name, module in sys.modules.items() if module is not None))
"""


def import_all(modules: list[str], blocked: tuple[str, ...]) -> set[str]:
    """Names of all modules that are loaded after importing `modules` with what is below them."""
    code = IMPORT_ALL.format(blocked=blocked, modules=modules)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["runtime", "metrics", "data", "spec", "preprocess", "config", "overlay", "cli", "bench"],
)
def test_imports_without_the_training_side(module: str) -> None:
    loaded = import_all([f"generalad.{module}"], BLOCKED)
    assert f"generalad.{module}" in loaded
    assert not [name for name in loaded if name.startswith(("generalad.model", "generalad.train"))]


def test_runtime_imports_only_its_layer() -> None:
    loaded = import_all(["generalad.runtime"], ("onnxruntime", "rich", "typer", *BLOCKED))
    own = {name for name in loaded if name.startswith("generalad.")}
    shared = ("calibration", "errors", "files", "overlay", "picture", "preprocess", "spec")
    allowed = {f"generalad.{name}" for name in shared}
    assert {name for name in own if not name.startswith("generalad.runtime")} == allowed


def test_command_line_loads_nothing_heavy() -> None:
    loaded = import_all(["generalad.cli"], BLOCKED)
    assert not loaded & {"numpy", "cv2", "onnxruntime"}
