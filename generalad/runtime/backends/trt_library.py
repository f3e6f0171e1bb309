"""Finding TensorRT, its one logger, and the facts about this machine that engines depend on."""

from __future__ import annotations

import functools
import importlib
import platform
from collections import deque
from typing import Any

from generalad.errors import GadError, MissingExtraError
from generalad.runtime.backends import cuda
from generalad.runtime.backends.engine_record import Machine


def library() -> Any:
    """The `tensorrt` module.

    Raises:
        MissingExtraError: it is not installed.
        GadError: it is installed but cannot be loaded.
    """
    try:
        return importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        missing = MissingExtraError("running TensorRT engines", "trt10")
        missing.remedy += " or, for TensorRT 11, pip install 'generalad[trt11]'"
        raise missing from error
    except (ImportError, OSError) as error:
        raise GadError(
            f"TensorRT is installed but cannot be loaded ({error})",
            remedy="install the TensorRT that fits the CUDA version of the driver",
        ) from error


def machine(trt: Any) -> Machine:
    """What engines depend on, here.

    Raises:
        GadError: there is no usable graphics card.
    """
    device = cuda.device()
    return Machine(
        tensorrt=trt.__version__,
        gpu=device.name,
        compute_capability=device.compute_capability,
        system=f"{platform.system()} {platform.machine()}",
        cuda=device.cuda,
    )


@functools.cache
def logger(trt: Any) -> Any:
    """The process's one TensorRT logger, which keeps the last warnings and errors.

    One, because TensorRT goes on using the first logger it was ever given.
    """
    serious = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.messages: deque[tuple[bool, str]] = deque(maxlen=20)

        def log(self, severity: Any, msg: str) -> None:
            if severity in serious or severity == trt.ILogger.WARNING:
                self.messages.append((severity in serious, " ".join(msg.split())))

        def clear(self) -> None:
            self.messages.clear()

        def reason(self) -> str:
            """The last error since `clear`, else the last warning."""
            errors = [text for error, text in self.messages if error]
            texts = errors or [text for _, text in self.messages]
            return texts[-1] if texts else "TensorRT gave no reason"

    return Log()


def create(trt: Any, kind: Any) -> Any:
    """A `trt.Runtime` or `trt.Builder`.

    Raises:
        GadError: TensorRT cannot start here.
    """
    try:
        return kind(logger(trt))
    except TypeError as error:  # how the bindings say that the library returned nothing
        raise GadError(
            f"TensorRT {trt.__version__} cannot start ({logger(trt).reason()})",
            remedy="update the NVIDIA driver",
        ) from error
