"""The largest absolute value of every tensor inside a graph, on given pictures."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from generalad.export.onnx_file import write_onnx
from generalad.spec import INPUT_NAME


def magnitudes(model: onnx.ModelProto, images: NDArray[np.uint8]) -> dict[str, float]:
    """Run a float32 graph and watch all of its float tensors.

    ONNX Runtime on a CPU computes most float16 nodes in float32, so an overflow inside a fused
    kernel of a GPU would not show there; sizes found in float32 tell where it must happen.

    Args:
        model: float32, as made by `to_onnx`.
        images: (n, H, W, 3) uint8 RGB; few will do.

    Returns:
        The largest absolute value of each tensor by its name; NaN where one was not finite.
    """
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    graph = watched.graph
    floats = [i.name for i in graph.value_info if i.type.tensor_type.elem_type == TensorProto.FLOAT]
    made = {name for node in graph.node for name in node.output}
    names = [name for name in floats if name in made]
    del graph.output[:]
    for place, name in enumerate(names):
        for operator in ("ReduceMax", "ReduceMin"):  # of Abs, a copy of every tensor would be made
            found = f"{operator}_{place}"
            graph.node.append(helper.make_node(operator, [name], [found], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(found, TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Without an arena memory goes back as soon as a tensor was looked at.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    with tempfile.TemporaryDirectory(prefix="gad-export-") as folder:
        path = Path(folder) / "watched.onnx"
        write_onnx(watched, path)
        session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        runs = [np.stack(session.run(None, {INPUT_NAME: image[None]})) for image in images]
    largest = np.abs(np.stack(runs)).max(axis=0).reshape(-1, 2).max(axis=1)
    return dict(zip(names, largest.tolist(), strict=True))
