"""Imports modules in a fresh interpreter where the training half's libraries are missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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
