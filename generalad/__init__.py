"""Visual anomaly detection from a folder of good images to a camera on a production line.

::

    import generalad

    config = generalad.load_config("small")
    trained = generalad.train_detector("parts/good", "runs/parts", config)
    exported = generalad.export_detector(trained)
    with generalad.open_session(exported.path) as session:
        scores, maps = session.run(images)

What needs torch is loaded when it is first used, so the runtime half works without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from generalad.version import __version__

if TYPE_CHECKING:
    from generalad.config import Config, load_config
    from generalad.data.check import check_dataset
    from generalad.data.dataset import open_dataset
    from generalad.errors import GadError
    from generalad.evaluation import evaluate_artifact
    from generalad.export.export import export_detector
    from generalad.runtime import infer, open_session
    from generalad.runtime.selftest import selftest
    from generalad.spec import Spec
    from generalad.training.train import train_detector

_HOMES = {
    "Config": "generalad.config",
    "GadError": "generalad.errors",
    "Spec": "generalad.spec",
    "check_dataset": "generalad.data.check",
    "evaluate_artifact": "generalad.evaluation",
    "export_detector": "generalad.export.export",
    "infer": "generalad.runtime",
    "load_config": "generalad.config",
    "open_dataset": "generalad.data.dataset",
    "open_session": "generalad.runtime",
    "selftest": "generalad.runtime.selftest",
    "train_detector": "generalad.training.train",
}

__all__ = [
    "Config",
    "GadError",
    "Spec",
    "__version__",
    "check_dataset",
    "evaluate_artifact",
    "export_detector",
    "infer",
    "load_config",
    "open_dataset",
    "open_session",
    "selftest",
    "train_detector",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'generalad' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
