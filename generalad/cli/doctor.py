"""`gad doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from generalad.cli.options import Json

PACKAGES = {
    "onnxruntime": ("run artifacts", "cpu"),
    "torch": ("train and export", "train"),
    "torchvision": ("train and export", "train"),
    "timm": ("train and export", "train"),
    "onnx": ("export", "train"),
    "onnxscript": ("export", "train"),
    "safetensors": ("train and export", "train"),
    "openvino": ("run and export OpenVINO models", "openvino"),
    "nncf": ("export int8 for OpenVINO", "int8"),
    "tensorrt": ("build and run TensorRT engines", "trt11"),
    "av": ("read network cameras", "streams"),
    "genicam": ("read cameras through GenTL producers", "genicam"),
    "pypylon": ("read Basler cameras", "basler"),
    "gi": ("read GigE Vision cameras, with Aravis", "gige"),
    "paho": ("send to MQTT brokers", "streams"),
    "prometheus_client": ("serve --metrics", "streams"),
    "starlette": ("serve over HTTP", "serve"),
    "pymodbus": ("talk to PLCs over Modbus", "modbus"),
    "asyncua": ("talk to PLCs over OPC UA", "opcua"),
    "snap7": ("talk to PLCs of Siemens", "s7"),
    "matplotlib": ("draw figures and PDF reports", "paper"),
    "cryptography": ("sign artifacts and check signatures", "sign"),
}

DISTRIBUTIONS = {
    "gi": "PyGObject",
    "paho": "paho-mqtt",
    "prometheus_client": "prometheus-client",
    "snap7": "python-snap7",
}
"""Where a module has another name than its distribution."""


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; `remedy` is empty where nothing is wrong."""

    name: str
    works: bool
    detail: str
    remedy: str = ""


def doctor(json: Json = False) -> None:
    """Show what this machine can run, and why not."""
    from generalad.cli.console import console, print_json

    findings = examine()
    screen = console()
    for finding in findings:
        mark = "[green]yes[/green]" if finding.works else "[yellow]no [/yellow]"
        remedy = f" → {finding.remedy}" if finding.remedy else ""
        screen.print(f"  {mark}  {finding.name:<22}", end="")
        screen.print(f"{finding.detail}{remedy}", markup=False)
    print_json([asdict(finding) for finding in findings], wanted=json)


def examine() -> list[Finding]:
    """Everything that decides what runs here."""
    from generalad.version import __version__

    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    return [
        Finding("generalad", True, f"{__version__} on {platform.system()} {machine}"),
        *(_package(name, *PACKAGES[name]) for name in PACKAGES),
        _providers(),
        _half_precision(),
        _cuda(),
        _video(),
        _cache(),
        _hub(),
    ]


def _package(name: str, purpose: str, extra: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        remedy = f"pip install 'generalad[{extra}]'"
        return Finding(name, False, f"not installed, needed to {purpose}", remedy)
    for distribution in (DISTRIBUTIONS.get(name, name), f"{name}-gpu"):
        try:
            return Finding(name, True, importlib.metadata.version(distribution))
        except importlib.metadata.PackageNotFoundError:
            continue
    return Finding(name, True, "installed")


def _providers() -> Finding:
    try:
        import onnxruntime
    except ImportError as error:
        return Finding("run on CPU or GPU", False, str(error), "pip install 'generalad[cpu]'")
    names = [n.removesuffix("ExecutionProvider") for n in onnxruntime.get_available_providers()]
    return Finding("providers", True, f"{', '.join(names)} offered by the installed onnxruntime")


def _half_precision() -> Finding:
    from generalad.half_precision import units_of
    from generalad.processor import read_processor

    processor = read_processor()
    units = [name for kind in ("bf16", "fp16") if (name := units_of(processor, kind))]
    return Finding("half precision on CPU", bool(units), ", ".join(units) or "no units for it")


def _cuda() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("train on GPU", False, "torch is not installed")
    import torch

    if torch.cuda.is_available():
        return Finding("train on GPU", True, torch.cuda.get_device_name())
    if torch.version.cuda is None:
        return Finding(
            "train on GPU", False, "torch was built without CUDA", "install a CUDA build of torch"
        )
    return Finding("train on GPU", False, "no GPU, or no driver", "training runs on the CPU")


def _video() -> Finding:
    import cv2

    backends = [cv2.videoio_registry.getBackendName(b) for b in cv2.videoio_registry.getBackends()]
    return Finding("video", bool(backends), f"OpenCV {cv2.__version__}: {', '.join(backends)}")


def _cache() -> Finding:
    from generalad.files import cache_folder

    folder = cache_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK)
    remedy = "" if writable else "set GAD_CACHE to a folder you may write to"
    return Finding("feature cache", writable, f"{folder}, {free / 1e9:.0f} GB free", remedy)


def _hub_folder() -> Path:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def _hub() -> Finding:
    prefix = "models--timm--"
    names = sorted(path.name.removeprefix(prefix) for path in _hub_folder().glob(f"{prefix}*"))
    if names:
        return Finding("model hub", True, f"weights on this machine: {', '.join(names)}")
    return Finding(
        "model hub",
        False,
        "no backbone weights on this machine; they are downloaded when first needed",
        "presets edge and embedded need none; for others without a network: --weights FILE",
    )
