"""ONNX files of any size, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

import onnx

from generalad.files import atomic_write
from generalad.runtime.backends.onnx_hash import HASH_KEY

MOST_INLINE = 1_500_000_000
"""Bytes of a file with its weights inside; protobuf ends at 2 GB. More goes to a second file."""


def write_onnx(
    model: onnx.ModelProto, path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a model; above `MOST_INLINE` bytes its weights lie in `NAME-HASH.data` beside it.

    The second file is named by its content and written first, so the model that stood there before
    keeps its own until the new one has taken its place.

    Args:
        model: without metadata of its own.
        path: of the file.
        metadata: written at the end, after the hash of what comes before (`runtime.onnx_hash`).

    Raises:
        StorageError: the place cannot be written, or the disk is full.
    """
    keep = ""
    if model.ByteSize() >= MOST_INLINE:
        model, keep = _write_apart(model, path)
    content = model.SerializeToString()
    end = onnx.ModelProto()
    entries = {HASH_KEY: hashlib.sha256(content).hexdigest(), **metadata} if metadata else {}
    for key, value in entries.items():
        end.metadata_props.add(key=key, value=value)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        # Two messages of protobuf, one after the other, are one with the fields of both.
        file.writelines([content, end.SerializeToString()])
    for stale in path.parent.glob(f"{path.stem}-{'[0-9a-f]' * 12}.data"):
        if stale.name != keep:
            with contextlib.suppress(OSError):
                stale.unlink()


def _write_apart(model: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, str]:
    apart = onnx.ModelProto()
    apart.CopyFrom(model)
    parts, offset, digest = [], 0, hashlib.sha256()
    for tensor in apart.graph.initializer:
        data = onnx.numpy_helper.to_array(tensor).tobytes()
        if len(data) < 1024:  # sizes and axes, which shape inference must see
            continue
        padding = -offset % 4096  # so that a runtime can map the weights into memory
        parts.append(b"\0" * padding + data)
        digest.update(parts[-1])
        onnx.external_data_helper.set_external_data(
            tensor, location="", offset=offset + padding, length=len(data)
        )
        tensor.ClearField("raw_data")
        offset += padding + len(data)
    name = f"{path.stem}-{digest.hexdigest()[:12]}.data"
    for tensor in apart.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name
    with atomic_write(path.parent / name) as temporary, temporary.open("wb") as file:
        file.writelines(parts)
    return apart, name
