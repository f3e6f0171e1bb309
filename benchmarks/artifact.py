"""A tiny artifact for benchmarks of what lies around the network."""

from __future__ import annotations

from pathlib import Path

from generalad.runtime.backends.fake import fake_spec
from generalad.spec import METADATA_KEY


def tiny_artifact(path: Path) -> Path:
    """Write an ONNX file whose map is the local mean brightness / 255 and whose score its peak."""
    from onnx import TensorProto, helper

    spec = fake_spec()
    (height, width), (map_height, map_width) = spec.image_size, spec.map_size
    cell = [height // map_height, width // map_width]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "colours"], ["grey"], keepdims=0),
        helper.make_node("Div", ["grey", "white"], ["unit"]),
        helper.make_node("Unsqueeze", ["unit", "channel"], ["plane"]),
        helper.make_node("AveragePool", ["plane"], ["cells"], kernel_shape=cell, strides=cell),
        helper.make_node("Squeeze", ["cells", "channel"], ["maps"]),
        helper.make_node("ReduceMax", ["maps", "pixels"], ["scores"], keepdims=0),
    ]
    constants = [
        helper.make_tensor("colours", TensorProto.INT64, [1], [3]),
        helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("channel", TensorProto.INT64, [1], [1]),
        helper.make_tensor("pixels", TensorProto.INT64, [2], [1, 2]),
    ]
    value = helper.make_tensor_value_info
    images = value("images", TensorProto.UINT8, ["B", height, width, 3])
    scores = value("scores", TensorProto.FLOAT, ["B"])
    maps = value("maps", TensorProto.FLOAT, ["B", map_height, map_width])
    graph = helper.make_graph(nodes, "brightness", [images], [scores, maps], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    path.write_bytes(model.SerializeToString())
    return path
