"""Visual anomaly detection from a folder of good images to a camera on a production line.

::

    import generalad

    model = generalad.load("model.onnx")
    found = model.predict("part.png")
    found.is_anomalous, found.score, found.anomaly_map

`train`, `import_checkpoint`, `export`, `evaluate`, `reproduce`, `figure`, `infer`, `calibrate`,
`selftest`, `serve` and `bench` are the commands of `gad`, with their defaults; `train_all_classes`
and `verify_precision` are options of `gad train` and `gad selftest`. See docs/python.md.

A name is loaded when it is first used: what runs exported models needs no torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from generalad.version import __version__

# Before anybody imports OpenCV: it would write between our lines.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# Before anybody imports ONNX Runtime: it would report its use to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from generalad.all_classes import train_all_classes
    from generalad.bench.measure import bench
    from generalad.config import Config, load_config
    from generalad.data.check import check_dataset
    from generalad.data.dataset import open_dataset
    from generalad.decision import decide
    from generalad.errors import GadError
    from generalad.evaluation import evaluate
    from generalad.localisation_figure import figure
    from generalad.overlay import overlay
    from generalad.prediction import Prediction
    from generalad.predictor import Predictor, load
    from generalad.preprocess import resize
    from generalad.reproduction.reproduce import reproduce
    from generalad.runtime import infer
    from generalad.runtime.selftest import selftest
    from generalad.serve.server import serve
    from generalad.spec import Spec
    from generalad.verbs import calibrate, export, import_checkpoint, train, verify_precision

_HOMES = {
    "Config": "config",
    "GadError": "errors",
    "Prediction": "prediction",
    "Predictor": "predictor",
    "Spec": "spec",
    "calibrate": "verbs",
    "check_dataset": "data.check",
    "decide": "decision",
    "evaluate": "evaluation",
    "figure": "localisation_figure",
    "import_checkpoint": "verbs",
    "infer": "runtime",
    "load": "predictor",
    "load_config": "config",
    "open_dataset": "data.dataset",
    "reproduce": "reproduction.reproduce",
    "resize": "preprocess",
    "selftest": "runtime.selftest",
    "train": "verbs",
    "train_all_classes": "all_classes",
    "verify_precision": "verbs",
}

_CALLABLE_MODULES = ("bench", "export", "overlay", "serve")
"""Verbs that are modules as well, see `callable_module`."""

__all__ = [
    "Config",
    "GadError",
    "Prediction",
    "Predictor",
    "Spec",
    "__version__",
    "bench",
    "calibrate",
    "check_dataset",
    "decide",
    "evaluate",
    "export",
    "figure",
    "import_checkpoint",
    "infer",
    "load",
    "load_config",
    "open_dataset",
    "overlay",
    "reproduce",
    "resize",
    "selftest",
    "serve",
    "train",
    "train_all_classes",
    "verify_precision",
]


def __getattr__(name: str) -> Any:
    if name in _CALLABLE_MODULES:
        return importlib.import_module(f"generalad.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'generalad' has no attribute {name!r}")
    return getattr(importlib.import_module(f"generalad.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
