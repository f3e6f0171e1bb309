"""Graphs that would run for ever or fill the memory are refused before they are loaded."""

from __future__ import annotations

import gc
import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeArtifact
from hostile_graphs import COLUMN, HOSTILE, constant, node, with_nodes

from generalad.errors import ArtifactError
from generalad.runtime import open_session
from generalad.runtime.backends import ort
from generalad.runtime.backends.onnx_graph import check_graph
from generalad.runtime.backends.onnx_reader import read_model
from generalad.runtime.backends.onnx_rules import RULES
from generalad.runtime.backends.onnx_sizes import Sizes


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_graphs_are_refused_unloaded(
    tmp_path: Path, make_artifact: MakeArtifact, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = make_artifact(tmp_path)
    path.write_bytes(with_nodes(path.read_bytes(), *HOSTILE[kind]))
    monkeypatch.setattr(ort.library(), "InferenceSession", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(ArtifactError) as caught:
        open_session(path, threads=1)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_what_is_added_runs_where_it_is_small(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    """So that the graphs above are refused for their sizes, and not for being no graphs."""
    path = make_artifact(tmp_path)
    nodes = [node("Reshape", ["maps", "all"], "column"), node("Tile", ["column", "few"], "big")]
    small = [COLUMN, constant("few", [1, 3], [2])]
    path.write_bytes(with_nodes(path.read_bytes(), nodes, small))
    with open_session(path, threads=1) as session:
        height, width = session.spec.image_size
        session.run(np.zeros((2, height, width, 3), np.uint8))


def test_a_graph_of_any_input_size_is_refused(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    import onnx

    path = make_artifact(tmp_path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "H"
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="an input of any size, which no export has"):
        open_session(path)


@pytest.mark.parametrize("name", ["../weights.data", "/etc/passwd", "pipe.data", "none.data"])
def test_weights_elsewhere(tmp_path: Path, make_artifact: MakeArtifact, name: str) -> None:
    import os

    import onnx

    (tmp_path / "a").mkdir()
    path = make_artifact(tmp_path / "a")
    (tmp_path / "weights.data").write_bytes(bytes(400))
    os.mkfifo(tmp_path / "a" / "pipe.data")
    model = onnx.load(path)
    tensor = onnx.numpy_helper.from_array(np.zeros(100, np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, location=name, offset=0, length=400)
    tensor.ClearField("raw_data")
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError):
        check_graph(path)


def test_a_long_graph_is_read_in_time_that_grows_with_it(
    tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    path, model = tmp_path / "m.onnx", make_artifact(tmp_path).read_bytes()

    def seconds(count: int) -> float:
        names = ["maps", *(f"n{number}" for number in range(count - 1)), "big"]
        nodes = [node("Relu", [a], b) for a, b in itertools.pairwise(names)]
        path.write_bytes(with_nodes(model, nodes))
        found = []
        for _ in range(3):
            began = time.process_time()
            check_graph(path)
            found.append(time.process_time() - began)
        return min(found)

    gc.disable()  # a collection takes as long as the rest of the process is large
    try:
        assert seconds(5000) < 50 * seconds(500)
    finally:
        gc.enable()


def test_shapes_are_those_of_the_onnx_library(tmp_path: Path) -> None:
    """Of small graphs of all operators whose shape the library infers too."""
    from onnx import TensorProto, helper, shape_inference

    inputs = {"x": [1, 8, 12, 10], "y": [1, 8, 12, 1], "m": [4, 6], "n": [6, 5], "v": [6]}
    numbers = {
        "two": ([2], [1]), "axes": ([2, 3], [2]), "sizes": ([1, 8, 24, 30], [4]),
        "shape": ([2, -1, 10], [3]), "starts": ([1, -3], [2]), "ends": ([11, 9], [2]),
        "steps": ([2, 1], [2]), "pads": ([0, 0, 1, 2, 0, 0, 3, 4], [8]), "k": ([3], [1]),
        "repeats": ([1, 2, 1, 3], [4]), "split": ([3, 5], [2]), "depth": ([7], []),
        "indices": ([0, 2, 1, 1], [2, 2]), "wide": ([3, 1, 8, 12, 10], [5]),
        "a": ([2], []), "b": ([30], []), "c": ([3], []), "two_axes": ([0, 2], [2]),
    }  # fmt: skip
    kernels = {"w": [16, 4, 3, 3], "t": [8, 5, 4, 4], "q": [2, 2], "g": [1, 7, 9, 2]}
    nodes = [
        helper.make_node("Add", ["x", "y"], ["o1"]),
        helper.make_node("ReduceMean", ["x", "axes"], ["o2"], keepdims=0),
        helper.make_node("ReduceMax", ["x"], ["o3"], keepdims=1),
        helper.make_node("ArgMax", ["x"], ["o4"], axis=2, keepdims=0),
        helper.make_node("Reshape", ["x", "shape"], ["o5"]),
        helper.make_node("Flatten", ["x"], ["o6"], axis=2),
        helper.make_node("Transpose", ["x"], ["o7"], perm=[0, 2, 3, 1]),
        helper.make_node("Unsqueeze", ["x", "two_axes"], ["o8"]),
        helper.make_node("Squeeze", ["o8", "two_axes"], ["o9"]),
        helper.make_node("Concat", ["x", "y"], ["o10"], axis=-1),
        helper.make_node("Split", ["x", "split"], ["o11", "o12"], axis=1),
        helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["o13"]),
        helper.make_node("Gather", ["x", "indices"], ["o14"], axis=1),
        helper.make_node("GatherND", ["x", "indices"], ["o15"]),
        helper.make_node("Expand", ["x", "wide"], ["o16"]),
        helper.make_node("Tile", ["x", "repeats"], ["o17"]),
        helper.make_node("Pad", ["x", "pads"], ["o18"]),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["o19"]),
        helper.make_node("Range", ["a", "b", "c"], ["o20"]),
        helper.make_node("OneHot", ["indices", "depth", "axes"], ["o21"], axis=1),
        helper.make_node("TopK", ["x", "k"], ["o22", "o23"], axis=1),
        helper.make_node("DepthToSpace", ["x"], ["o24"], blocksize=2),
        helper.make_node("SpaceToDepth", ["x"], ["o25"], blocksize=2),
        helper.make_node("MaxPool", ["x"], ["o26"], kernel_shape=[3, 3], strides=[2, 2],
                         pads=[1, 1, 1, 1], ceil_mode=1),
        helper.make_node("AveragePool", ["x"], ["o27"], kernel_shape=[2, 3], auto_pad="SAME_UPPER"),
        helper.make_node("GlobalAveragePool", ["x"], ["o28"]),
        helper.make_node("Conv", ["x", "w"], ["o29"], group=2, dilations=[2, 1],
                         strides=[1, 2], pads=[1, 0, 2, 1]),
        helper.make_node("ConvTranspose", ["x", "t"], ["o30"], strides=[3, 2],
                         output_padding=[1, 0], pads=[1, 1, 0, 0]),
        helper.make_node("MatMul", ["m", "n"], ["o31"]),
        helper.make_node("MatMul", ["m", "v"], ["o32"]),
        helper.make_node("MatMul", ["v", "n"], ["o33"]),
        helper.make_node("Gemm", ["n", "m"], ["o34"], transA=1, transB=1),
        helper.make_node("Shape", ["x"], ["o35"], start=1),
        helper.make_node("ConstantOfShape", ["o35"], ["o36"]),
        helper.make_node("Einsum", ["m", "n"], ["o37"], equation="ij,jk->ki"),
        helper.make_node("GridSample", ["x", "g"], ["o38"]),
        helper.make_node("LayerNormalization", ["x", "y"], ["o39"]),
        helper.make_node("Constant", [], ["o40"], value_ints=[4, 5]),
        helper.make_node("Size", ["x"], ["o41"]),
        helper.make_node("GatherElements", ["m", "indices"], ["o42"]),
        helper.make_node("MatMul", ["v", "v"], ["o43"]),
    ]  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "all",
        [value(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [],
        [helper.make_tensor(n, TensorProto.INT64, s, v) for n, (v, s) in numbers.items()]
        + [
            helper.make_tensor(n, TensorProto.FLOAT, s, np.zeros(s).ravel())
            for n, s in kernels.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    expected = {
        info.name: tuple(size.dim_value for size in info.type.tensor_type.shape.dim)
        for info in inferred.graph.value_info
    }
    ours = read_model(model.SerializeToString())
    sizes = Sizes(ours, {name.encode(): tuple(shape) for name, shape in inputs.items()})
    for one in ours.nodes:
        found = RULES[one.operator](one, sizes)
        shapes = found if isinstance(found, list) else [found] * len(one.outputs)
        sizes.shapes.update(zip(one.outputs, shapes, strict=True))
    assert len(expected) == 43
    assert {name: sizes.shapes[name.encode()] for name in expected} == expected


def test_a_pipe_is_no_artifact(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="a pipe or a device"):
        open_session(tmp_path / "model.onnx")
