"""Artifacts that are almost nothing, for tests and benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from generalad.runtime.backends.fake import fake_spec
from generalad.spec import METADATA_KEY, Spec


def tiny_artifact(
    path: Path,
    spec: Spec | None = None,
    *,
    batch: int | str = "B",
    metadata: str | None = "",
    outputs: tuple[str, str] = ("scores", "maps"),
) -> Path:
    """Write an ONNX file whose map is the local mean brightness / 255 and whose score its peak.

    Args:
        path: where.
        spec: `fake_spec()` by default.
        batch: an int fixes it.
        metadata: in the spec's place; None leaves the spec out.
        outputs: names of scores and maps.
    """
    from onnx import TensorProto, helper

    spec = spec or fake_spec()
    (height, width), (map_height, map_width) = spec.image_size, spec.map_size
    cell, (scores, maps) = [height // map_height, width // map_width], outputs
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "colours"], ["grey"], keepdims=0),
        helper.make_node("Div", ["grey", "white"], ["unit"]),
        helper.make_node("Unsqueeze", ["unit", "channel"], ["plane"]),
        helper.make_node("AveragePool", ["plane"], ["cells"], kernel_shape=cell, strides=cell),
        helper.make_node("Squeeze", ["cells", "channel"], [maps]),
        helper.make_node("ReduceMax", [maps, "pixels"], [scores], keepdims=0),
    ]
    constants = [
        helper.make_tensor("colours", TensorProto.INT64, [1], [3]),
        helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("channel", TensorProto.INT64, [1], [1]),
        helper.make_tensor("pixels", TensorProto.INT64, [2], [1, 2]),
    ]
    value = helper.make_tensor_value_info
    given = [value("images", TensorProto.UINT8, [batch, height, width, 3])]
    found = [
        value(scores, TensorProto.FLOAT, [batch]),
        value(maps, TensorProto.FLOAT, [batch, map_height, map_width]),
    ]
    graph = helper.make_graph(nodes, "brightness", given, found, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: metadata or spec.to_json()})
    path.write_bytes(model.SerializeToString())
    return path


PLANTED = 256  # side of the planted products


def planted_artifact(artifact: Path, slower: Path, *, rows: int) -> Path:
    """Write a copy that also multiplies a (rows, 256) matrix by a (256, 256) one at every run.

    The result times nought is added to the scores. The matrix depends on the scores, so that no
    optimiser can compute the product once and for all.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(artifact)
    scores = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["planted_scores" if name == scores else name for name in node.output]
        node.input[:] = ["planted_scores" if name == scores else name for name in node.input]
    random = np.random.default_rng(0)
    constants = {
        "planted_rows": random.random((rows, PLANTED), np.float32),
        "planted_square": random.random((PLANTED, PLANTED), np.float32),
        "planted_tiny": np.array(1e-20, np.float32),
        "planted_nought": np.array(0, np.float32),
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    node = helper.make_node
    model.graph.node.extend(
        [
            node("ReduceMax", ["planted_scores"], ["planted_peak"], keepdims=0),
            node("Mul", ["planted_peak", "planted_tiny"], ["planted_shift"]),
            node("Add", ["planted_rows", "planted_shift"], ["planted_left"]),
            node("MatMul", ["planted_left", "planted_square"], ["planted_product"]),
            node("ReduceMax", ["planted_product"], ["planted_largest"], keepdims=0),
            node("Mul", ["planted_largest", "planted_nought"], ["planted_zero"]),
            node("Add", ["planted_scores", "planted_zero"], [scores]),
        ]
    )
    onnx.save(model, slower)
    return slower
