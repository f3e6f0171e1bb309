"""A model repository for NVIDIA's Triton Inference Server, from an exported artifact.

    REPOSITORY/NAME/config.pbtxt       names, types, batches, instances, warm-up, thresholds
    REPOSITORY/NAME/1/model.onnx       or model.plan; the artifact byte by byte
    REPOSITORY/NAME/warmup/golden-1    the golden samples as raw tensors

The fields are those of `model_config.proto` of Triton 2.x. Needs neither torch nor Triton.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from generalad.errors import ArtifactError, UsageError
from generalad.files import make_folder, sha256_of_file, storage_error
from generalad.runtime.backends.engine_record import read_record
from generalad.runtime.backends.onnx_hash import check_unchanged, weights_apart
from generalad.runtime.backends.open import open_session
from generalad.runtime.selftest import golden_images, selftest_of
from generalad.spec import Spec

MOST_IMAGES = 8
"""Of a batch that Triton makes, where the artifact takes any number."""

MAX_DELAY = 0.005
"""Seconds that an image waits for others."""

_KINDS = {".onnx": ("onnxruntime", "model.onnx"), ".engine": ("tensorrt", "model.plan")}


class _Word(str):
    """A value of protobuf's text format that is no string: a type or a kind."""


def write_repository(
    artifact: str | Path,
    out: str | Path,
    *,
    batch: int | None = None,
    instances: int = 1,
    max_delay: float = MAX_DELAY,
) -> Path:
    """Write a model repository that Triton can load.

    An ONNX file must pass its golden samples here first. An engine runs on the card and version of
    TensorRT only that it was built for, which config.pbtxt names; its hash is checked.

    Args:
        artifact: .onnx or .engine, made by `gad export`.
        out: folder of the repository; it may hold other models.
        batch: most images that Triton puts together; None for what the artifact was made for.
        instances: how often the network is loaded, on each card or on the processor.
        max_delay: seconds that an image may wait for others.

    Returns:
        The folder of the model, with the name of the artifact's file.

    Raises:
        ArtifactError: not an artifact of these kinds, or damaged.
        GateError: it computes something else here than its export verified.
        StorageError: it cannot be written.
        UsageError: the model is there already, or a number is out of range.
    """
    artifact = Path(artifact)
    if artifact.suffix.lower() not in _KINDS:
        raise UsageError(
            f"{artifact}: expected .onnx or .engine, which Triton runs",
            remedy="export it with gad export, for an engine with --format tensorrt",
        )
    if instances < 1 or not 0 <= max_delay < 60 or (batch is not None and batch < 1):
        raise UsageError("batch and instances are at least 1, the delay 0 to 60 s")
    spec, most, needs = _checked(artifact, batch)
    folder = Path(out) / re.sub(r"[^A-Za-z0-9_.-]+", "-", artifact.stem)
    if folder.exists():
        raise UsageError(f"{folder} exists already", remedy="remove it, or choose another folder")
    temporary = folder.with_name(f".{folder.name}.part")
    text = _config(folder.name, spec, artifact, most, needs, instances, max_delay)
    make_folder(temporary)
    try:
        _copy(artifact, temporary / "1")
        make_folder(temporary / "warmup")
        for number, image in enumerate(golden_images(spec, artifact.name), start=1):
            (temporary / "warmup" / f"golden-{number}").write_bytes(image.tobytes())
        (temporary / "config.pbtxt").write_text(text, encoding="utf-8")
        temporary.rename(folder)
    except OSError as error:
        raise storage_error(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _checked(artifact: Path, batch: int | None) -> tuple[Spec, int, dict[str, str]]:
    """The spec, the most images of a run (0: exactly those of the graph), and what it needs."""
    if artifact.suffix.lower() == ".engine":
        record = read_record(artifact)
        if sha256_of_file(artifact) != record.engine_sha256:
            raise ArtifactError(f"{artifact}: changed or damaged", remedy="build it again")
        machine = record.machine
        needs = {"tensorrt": machine.tensorrt, "gpu": machine.gpu, "system": machine.system}
        most = min(batch or record.batch[2], record.batch[2])
        return record.spec, most, needs
    with open_session(artifact, device="cpu") as session:
        check_unchanged(artifact)
        selftest_of(session, artifact.name).check()
        fixed = session.fixed_batch
        return session.spec, (batch or MOST_IMAGES) if fixed is None else -fixed, {}


def _copy(artifact: Path, version: Path) -> None:
    """The artifact under Triton's name for it; with weights of its own it is a folder of that."""
    make_folder(version)
    name = _KINDS[artifact.suffix.lower()][1]
    apart = weights_apart(artifact.read_bytes()) if name == "model.onnx" else []
    if apart:
        version = make_folder(version / name)
    shutil.copyfile(artifact, version / name)
    for other in apart:
        shutil.copyfile(artifact.with_name(other), version / other)


def _config(
    name: str,
    spec: Spec,
    artifact: Path,
    most: int,
    needs: Mapping[str, str],
    instances: int,
    max_delay: float,
) -> str:
    """The text of config.pbtxt."""
    (height, width), (map_height, map_width) = spec.image_size, spec.map_size
    batches = most > 0
    # A graph of a fixed batch says its whole shapes, and Triton makes no batches.
    fixed = [] if batches else [-most]
    scores: dict[str, Any] = {"name": "scores", "data_type": _Word("TYPE_FP32")}
    scores.update({"dims": [1], "reshape": {"shape": []}} if batches else {"dims": fixed})
    image = {"data_type": _Word("TYPE_UINT8"), "dims": [*fixed, height, width, 3]}
    backend = _KINDS[artifact.suffix.lower()][0]
    kind = "KIND_GPU" if backend == "tensorrt" else "KIND_AUTO"
    config: dict[str, Any] = {
        "name": name,
        "backend": backend,
        "max_batch_size": max(most, 0),
        "input": [{"name": spec.input_name, **image}],
        "output": [
            scores,
            {
                "name": "maps",
                "data_type": _Word("TYPE_FP32"),
                "dims": [*fixed, map_height, map_width],
            },
        ],
        "instance_group": [{"count": instances, "kind": _Word(kind)}],
    }
    if batches and most > 1:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": round(max_delay * 1e6)}
    if batches or most == -1:
        config["model_warmup"] = [
            {
                "name": f"golden-{number}",
                "batch_size": 1,
                "inputs": {
                    "key": spec.input_name,
                    "value": {**image, "input_data_file": f"golden-{number}"},
                },
            }
            for number in range(1, len(spec.golden) + 1)
        ]
    said = {
        "class": spec.class_name,
        "threshold": repr(spec.thresholds.image),
        "pixel_threshold": repr(spec.thresholds.pixel),
        "normalisation_scale": repr(spec.normalisation.scale),
        "resize": spec.resize,
        **needs,
    }
    config["parameters"] = [
        {"key": f"generalad.{key}", "value": {"string_value": value}} for key, value in said.items()
    ]
    return _text(config)


def _text(message: Mapping[str, Any], indent: str = "") -> str:
    """A message in protobuf's text format; a list of messages is the field several times."""
    lines = []
    for key, value in message.items():
        values = (
            value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        )
        for one in values:
            if isinstance(one, dict):
                lines.append(f"{indent}{key} {{\n{_text(one, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{key}: {_literal(one)}\n")
    return "".join(lines)


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str) and not isinstance(value, _Word):
        # Octal escapes of UTF-8 are what the format has in common with C.
        return "".join(['"', *(_escaped(byte) for byte in value.encode("utf-8", "replace")), '"'])
    return str(value)


def _escaped(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}"
