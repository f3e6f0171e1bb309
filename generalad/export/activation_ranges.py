"""The largest absolute value of every tensor inside a graph, on given images."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from generalad.export.onnx_file import write_onnx
from generalad.spec import INPUT_NAME

MOST_BYTES = 2 << 30
"""Of tensors that are watched at once; those of a ViT-L at 518 px take 12 GB together."""


def activation_ranges(model: onnx.ModelProto, images: NDArray[np.uint8]) -> dict[str, float]:
    """Run a float32 graph and watch all of its float tensors.

    ONNX Runtime on a CPU computes most float16 nodes in float32, so an overflow inside a fused
    kernel of a GPU would not show there; sizes found in float32 tell where it must happen.

    Args:
        model: float32, as made by `to_onnx`.
        images: (n, H, W, 3) uint8 RGB; few will do.

    Returns:
        The largest absolute value of each tensor by its name; NaN where one was not finite.
    """
    made = {name for node in model.graph.node for name in node.output}
    sizes = {
        item.name: _bytes(item)
        for item in model.graph.value_info
        if item.type.tensor_type.elem_type == TensorProto.FLOAT and item.name in made
    }
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="gad-export-") as folder:
        for names in _groups(sizes):
            found |= _watch(model, names, images, Path(folder) / "watched.onnx")
    return found


def _bytes(item: onnx.ValueInfoProto) -> int:
    """Of a float32 tensor for one image."""
    return 4 * math.prod(int(axis.dim_value) or 1 for axis in item.type.tensor_type.shape.dim)


def _groups(sizes: dict[str, int]) -> Iterator[list[str]]:
    """Tensors that are watched together; ONNX Runtime holds all of them until the end of a run."""
    group: list[str] = []
    for name, size in sizes.items():
        if group and sum(sizes[other] for other in group) + size > MOST_BYTES:
            yield group
            group = []
        group.append(name)
    yield group


def _watch(
    model: onnx.ModelProto, names: list[str], images: NDArray[np.uint8], path: Path
) -> dict[str, float]:
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    graph = watched.graph
    del graph.output[:]
    for place, name in enumerate(names):
        for operator in ("ReduceMax", "ReduceMin"):  # of Abs, a copy of every tensor would be made
            result = f"{operator}_{place}"
            graph.node.append(helper.make_node(operator, [name], [result], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, []))
    write_onnx(watched, path)
    del watched, graph
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # An arena would keep twice what is needed at once.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
    runs = [np.stack(session.run(None, {INPUT_NAME: image[None]})) for image in images]
    largest = np.abs(np.stack(runs)).max(axis=0).reshape(-1, 2).max(axis=1)
    return dict(zip(names, largest.tolist(), strict=True))
