"""Which ONNX Runtime provider runs an artifact: asked for with its options, then read back.

ONNX Runtime falls to the next provider without a word when one cannot be loaded. Here a device that
was named is used or refused; only the default may fall from CUDA to the CPU, and the session says
which one it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from generalad.errors import GadError, UsageError
from generalad.files import make_folder, sha256_of_file
from generalad.spec import INPUT_NAME, METADATA_KEY, Spec

CPU, CUDA, TENSORRT = (f"{n}ExecutionProvider" for n in ("CPU", "CUDA", "Tensorrt"))
DEVICES = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}

LARGEST_BATCH = 16
"""Of the TensorRT provider's engines, for artifacts whose batch is free."""

Provider = tuple[str, dict[str, Any]]


def wanted(ort: Any, path: Path, device: str | None) -> list[Provider]:
    """Providers to ask for, the first choice first.

    Args:
        ort: the module onnxruntime.
        path: of the artifact.
        device: "cpu", "cuda" or "tensorrt"; None for CUDA where it is offered, else the CPU.

    Raises:
        UsageError: the installed onnxruntime does not offer that device.
    """
    offered = ort.get_available_providers()
    if device is not None and DEVICES[device] not in offered:
        raise UsageError(
            f"the installed onnxruntime offers no {device}, only"
            f" {', '.join(name.removesuffix('ExecutionProvider') for name in offered)}",
            remedy="pip uninstall onnxruntime; pip install 'generalad[cuda]'",
        )
    chosen: list[Provider] = [(CPU, {})]
    if CUDA in offered and device != "cpu":
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # finds the CUDA libraries that pip installed
        # The default tries every convolution algorithm at start-up. TF32 would move scores.
        chosen.insert(0, (CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}))
    if device == "tensorrt":
        chosen.insert(0, (TENSORRT, _tensorrt_options(ort, path)))
    return chosen


def in_use(session: Any, device: str | None) -> str:
    """The provider that a session really runs on, such as "CUDA".

    Raises:
        GadError: not the one that was asked for.
    """
    found = str(session.get_providers()[0])
    if device is not None and found != DEVICES[device]:
        hint = " and TensorRT 10 (it does not load 11)" if device == "tensorrt" else ""
        raise GadError(
            f"onnxruntime could not load its {device} provider and would run on"
            f" {found.removesuffix('ExecutionProvider')}",
            remedy=f"install the CUDA and cuDNN it was built for{hint}; gad doctor shows more",
        )
    return found.removesuffix("ExecutionProvider")


def _tensorrt_options(ort: Any, path: Path) -> dict[str, Any]:
    """Caches for this very file, types as they stand in the graph, one profile for all batches."""
    from generalad.files import cache_folder

    cache = make_folder(cache_folder() / "tensorrt" / sha256_of_file(path)[:16])
    options: dict[str, Any] = {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(cache.parent),
    }
    (batch, *size), half = _look_into(ort, path)
    if half:
        # The provider builds weakly typed engines: without it half precision is not used at all,
        # with it a float32 graph would be computed in half precision.
        options |= {"trt_fp16_enable": True, "trt_layer_norm_fp32_fallback": True}
    if not isinstance(batch, int):
        shape = "x".join(str(length) for length in size)
        for name, count in (("min", 1), ("opt", 1), ("max", LARGEST_BATCH)):
            options[f"trt_profile_{name}_shapes"] = f"{INPUT_NAME}:{count}x{shape}"
    return options


def _look_into(ort: Any, path: Path) -> tuple[list[Any], bool]:
    """Shape of the input, and whether the artifact is in half precision."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), sess_options=settings, providers=[CPU])
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    half = text is not None and Spec.from_json(text, name=str(path)).precision == "fp16"
    return list(session.get_inputs()[0].shape), half
