"""Operations and bytes of graphs, against graphs of ones that count their own multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from generalad.bench.graph_cost import count, count_model
from generalad.errors import ArtifactError, MissingExtraError

SIZE = st.integers(1, 9)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[Any, ...]],
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
    *,
    outputs: Sequence[str] = ("y",),
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


def multiplications(graph: onnx.ModelProto) -> float:
    """With ones everywhere and no padding, every output is the number of its multiplications."""
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {i.name: ones(*i.shape) for i in session.get_inputs()}
    return float(sum(output.sum(dtype=np.float64) for output in session.run(None, feed)))


@settings(max_examples=25, deadline=None)
@given(st.lists(SIZE, max_size=2), SIZE, SIZE, SIZE)
def test_products(batches: list[int], m: int, k: int, n: int) -> None:
    graph = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (1, *batches, m, k)},
        {"w": ones(k, n)},
    )
    assert count_model(graph).total == 2 * multiplications(graph)


@settings(max_examples=25, deadline=None)
@given(SIZE, SIZE, SIZE, st.booleans(), st.booleans())
def test_gemm(m: int, k: int, n: int, turn_a: bool, turn_b: bool) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=int(turn_a), transB=int(turn_b))
    weights = ones(n, k) if turn_b else ones(k, n)
    first = (k, m) if turn_a else (m, k)
    graph = model([node], {"x": first}, {"w": weights})
    # The first axis counts as the batch, whatever it is here.
    assert count_model(graph).total * first[0] == 2 * multiplications(graph)


@settings(max_examples=25, deadline=None)
@given(
    groups=st.integers(1, 3),
    inside=st.integers(1, 3),
    outside=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    turned=st.booleans(),
)
def test_convolutions(
    groups: int,
    inside: int,
    outside: int,
    kernel: tuple[int, int],
    stride: int,
    turned: bool,
) -> None:
    channels = groups * inside
    shape = (channels, outside, *kernel) if turned else (groups * outside, inside, *kernel)
    operator = "ConvTranspose" if turned else "Conv"
    node = helper.make_node(operator, ["x", "w"], ["y"], group=groups, strides=[stride] * 2)
    graph = model([node], {"x": (1, channels, 7, 8)}, {"w": ones(*shape)})
    assert count_model(graph).total == 2 * multiplications(graph)


def attention(tokens: int, width: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["a"]),
        helper.make_node("Softmax", ["a"], ["s"]),
        helper.make_node("MatMul", ["s", "q"], ["y"]),
    ]
    return model(nodes, {"x": ("batch", tokens, width)}, {"wq": ones(width, width)})


@pytest.mark.parametrize("batch", [1, 4])
def test_attention_is_made_of_products_and_the_batch_shares_the_weights(batch: int) -> None:
    tokens, width = 10, 6
    found = count_model(attention(tokens, width), batch=batch)
    assert found.total == 2 * tokens * width * (width + 2 * tokens)
    assert found.bytes == 4 * (width * width / batch + 2 * tokens * width)


def test_a_fixed_batch_is_taken() -> None:
    graph = attention(10, 6)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    assert count_model(graph, batch=1) == count_model(attention(10, 6), batch=4)


def quantised(
    *, weights_only: bool, between: Sequence[str] = ()
) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray[Any, Any]]]:
    scale = {"s": np.float32(0.1), "z": np.uint8(0), "zw": np.int8(0)}
    stored = {name: np.asarray(value) for name, value in scale.items()}
    stored["w8"] = np.ones((4, 4), np.int8)
    nodes = [helper.make_node("DequantizeLinear", ["w8", "s", "zw"], ["w0"])]
    for number, operator in enumerate(between):
        nodes.append(helper.make_node(operator, [f"w{number}"], [f"w{number + 1}"]))
    if not weights_only:
        nodes.append(helper.make_node("QuantizeLinear", ["x", "s", "z"], ["x8"]))
        nodes.append(helper.make_node("DequantizeLinear", ["x8", "s", "z"], ["xd"]))
    factors = ["x" if weights_only else "xd", f"w{len(between)}"]
    nodes.append(helper.make_node("MatMul", factors, ["y"]))
    return nodes, stored


@pytest.mark.parametrize(
    ("weights_only", "between", "precision"),
    [
        (False, (), "int8"),
        (False, ("Transpose",), "int8"),
        (True, (), "fp32"),
        (False, ("Relu",), "fp32"),
    ],
)
def test_eight_bits_are_those_of_both_factors(
    weights_only: bool, between: tuple[str, ...], precision: str
) -> None:
    nodes, stored = quantised(weights_only=weights_only, between=between)
    found = count_model(model(nodes, {"x": (3, 4)}, stored))
    assert found.flops == {precision: 2 * 4 * 4}
    assert found.bytes * 3 == 4 * 4 + 4 + 1 + 1 + 2 * 4 * 3 * 4  # eight-bit weights take a byte


def test_half_precision_and_a_mix() -> None:
    half = np.ones((4, 4), np.float16)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["b", "v"], ["y"]),
    ]
    graph = model(nodes, {"x": (1, 4)}, {"w": half, "v": ones(4, 8)}, kind=TensorProto.FLOAT16)
    graph.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    assert count_model(graph).flops == {"fp16": 32, "fp32": 64}


def test_weights_in_a_file_of_their_own_are_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    graph = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ("B", 64)}, {"w": ones(64, 64)}
    )
    expected = count_model(onnx.ModelProto.FromString(graph.SerializeToString()))
    onnx.save(graph, path, save_as_external_data=True, location="weights.data", size_threshold=0)
    (tmp_path / "weights.data").unlink()
    assert count(path) == expected


def test_what_cannot_be_counted_is_said(tmp_path: Path) -> None:
    einsum = helper.make_node("Einsum", ["x", "w"], ["y"], equation="bi,ij->bj")
    with pytest.raises(ArtifactError, match="Einsum is not counted"):
        count_model(model([einsum], {"x": (1, 4)}, {"w": ones(4, 4)}))
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    with pytest.raises(ArtifactError, match="the shape of x cannot be inferred"):
        count_model(model([product], {"x": ("B", "C")}, {"w": ones(4, 4)}))
    (tmp_path / "no.onnx").write_bytes(b"not protobuf at all")
    with pytest.raises(ArtifactError, match="not an ONNX file"):
        count(tmp_path / "no.onnx")


def test_onnx_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"generalad\[bench\]"):
        count(tmp_path / "model.onnx")
