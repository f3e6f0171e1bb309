"""Half precision in the graph: types that fit, a head of 32 bits, a ladder that climbs."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from training_helpers import body, save_weights, tiny_config

from generalad.export import activation_ranges as module
from generalad.export.activation_ranges import activation_ranges
from generalad.export.precision import Rung, is_head, ladder, lower, scope_of, too_large
from generalad.export.to_onnx import to_onnx
from generalad.model.detector import Detector
from generalad.model.weights import load_backbone

pytest_plugins = ["training_fixtures"]
FAMILIES = {
    "embedded": ["embedded", [2]],
    "vit": ["vit_small_patch14_reg4_dinov2", [1]],
    "eva": ["vit_small_patch16_dinov3", [1]],
    "cnn": ["resnet18", [1, 2]],
}


@pytest.fixture(scope="module", params=FAMILIES)
def graph(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> onnx.ModelProto:
    name, layers = FAMILIES[request.param]
    config = tiny_config(backbone=name, layers=layers, image_size=[56, 56], whitened=False)
    if name == "embedded":
        config = config.replaced({"image_size": [64, 64], "whitened": True})
        backbone = load_backbone(config)[0]
    else:
        if "patch16" in str(name):
            config = config.replaced({"image_size": [64, 64]})
        path = tmp_path_factory.mktemp("weights") / "w.safetensors"
        backbone = load_backbone(config, weights=save_weights(path, body(str(name))))[0]
    torch.manual_seed(0)
    return to_onnx(Detector(config, backbone).eval())


def random_images(model: onnx.ModelProto, count: int = 3) -> NDArray[np.uint8]:
    height, width = (
        axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim[1:3]
    )
    return np.random.default_rng(5).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def run(model: onnx.ModelProto, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(["scores", "maps"], {"images": images}))


def test_every_rung_is_a_valid_graph_near_the_original(graph: onnx.ModelProto) -> None:
    images = random_images(graph)
    expected = run(graph, images)
    for rung in ladder(graph):
        if rung.precision == "fp32":
            continue
        half = lower(graph, rung.precision, rung.keep, rung.bfloat16)
        onnx.checker.check_model(half, full_check=True)
        if rung.precision == "bf16" or rung.bfloat16:
            continue  # the CPU has no kernels for it
        for found, wanted in zip(run(half, images), expected, strict=True):
            assert found.dtype == np.float32
            assert np.abs(found - wanted).max() < 0.03 * max(1.0, float(np.ptp(wanted)))


def test_most_of_the_network_is_lowered_and_the_head_is_not(graph: onnx.ModelProto) -> None:
    rung = ladder(graph)[0]
    half = lower(graph, "fp16", rung.keep)
    assert half.ByteSize() < 0.75 * graph.ByteSize()
    types = {i.name: i.type.tensor_type.elem_type for i in half.graph.value_info}
    kinds = {
        node.op_type
        for node in half.graph.node
        if is_head(node) and types.get(node.output[0]) == TensorProto.FLOAT16
    }
    assert kinds <= {"Cast"}
    products = [n for n in half.graph.node if n.op_type in ("MatMul", "Conv") and not is_head(n)]
    assert products and all(types[n.output[0]] == TensorProto.FLOAT16 for n in products)


def test_scores_are_not_rounded_to_sixteen_bits(graph: onnx.ModelProto) -> None:
    """A head that computes in 32 bits returns numbers that 16 bits cannot hold."""
    scores, _ = run(lower(graph, "fp16", is_head), random_images(graph, 8))
    assert (scores != scores.astype(np.float16).astype(np.float32)).any()


def test_a_tensor_is_cast_once_for_all_who_want_it(graph: onnx.ModelProto) -> None:
    half = lower(graph, "fp16", ladder(graph)[3].keep)
    casts = [node for node in half.graph.node if node.name.startswith("cast_")]
    assert casts and len({node.input[0] for node in casts}) == len(casts)
    made_by_cast = {node.output[0] for node in casts}
    assert not made_by_cast & {node.input[0] for node in casts}, "no cast of a cast"


def test_the_ladder_keeps_more_and_more(graph: onnx.ModelProto) -> None:
    rungs = ladder(graph)
    assert [rung.precision for rung in rungs] == ["fp16"] * 5 + ["bf16", "fp32"]
    kept = [{n.name for n in graph.graph.node if rung.keep(n)} for rung in rungs]
    for before, after in itertools.pairwise(kept[:5]):
        assert before <= after
    assert kept[0] < kept[4] < kept[6] == {node.name for node in graph.graph.node}
    assert any(scope_of(node).startswith("backbone") for node in graph.graph.node)


def test_attention_alone_in_bfloat16(graph: onnx.ModelProto) -> None:
    """Query, key and value come in bfloat16; what is made of them goes on in float16."""
    (rung,) = [rung for rung in ladder(graph) if rung.bfloat16]
    assert rung.name == "fp16, LayerNorm in fp32, attention in bf16"
    half = lower(graph, rung.precision, rung.keep, rung.bfloat16)
    types = {item.name: item.type.tensor_type.elem_type for item in half.graph.value_info}
    core = [node for node in half.graph.node if node.name in rung.bfloat16]
    softmax = [node for node in core if node.op_type == "Softmax"]
    assert len(core) == 3 * len(softmax) > 0
    assert {types[node.output[0]] for node in core} == {TensorProto.BFLOAT16}
    others = [node for node in half.graph.node if node.op_type == "MatMul" and node not in core]
    assert TensorProto.BFLOAT16 not in {types.get(node.output[0]) for node in others}
    # Logits beyond float16 do not forbid it.
    logits = softmax[0].input[0].removesuffix("_bfloat16")
    assert too_large({logits: 7e4}, graph, ladder(graph)[1])
    assert not too_large({logits: 7e4}, graph, rung)


def small(largest: float) -> onnx.ModelProto:
    """Y = (float(images) * weight) * 1, with value information as the exporter writes it."""
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "weight"], ["y"], "mul"),
        helper.make_node("Mul", ["y", "one"], ["scores"], "out"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value("images", TensorProto.UINT8, ["batch", 2, 2, 3])],
        [value("scores", TensorProto.FLOAT, ["batch", 2, 2, 3])],
        [
            helper.make_tensor("weight", TensorProto.FLOAT, [1], [largest]),
            helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        ],
        value_info=[value(name, TensorProto.FLOAT, ["batch", 2, 2, 3]) for name in ("x", "y")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_the_largest_values_are_found() -> None:
    images = np.full((2, 2, 2, 3), 7, np.uint8)
    images[1] = 200
    assert activation_ranges(small(-3.0), images) == {"x": 200.0, "y": 600.0}


def test_large_tensors_are_watched_one_after_the_other(
    graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = random_images(graph, 1)
    together = activation_ranges(graph, images)
    monkeypatch.setattr(module, "MOST_BYTES", sum(map(module._bytes, graph.graph.value_info)) // 3)
    apart = activation_ranges(graph, images)
    assert list(apart) == list(together)
    assert list(apart.values()) == pytest.approx(list(together.values()), rel=1e-4, abs=1e-4)


def test_rungs_that_would_keep_the_same_are_tried_once() -> None:
    """A network without LayerNorm, Softmax or blocks of a ViT has one rung of float16."""
    assert [rung.name for rung in ladder(small(1.0))] == ["fp16", "bf16", "fp32"]


@pytest.mark.parametrize(
    ("largest", "keep", "found"),
    [
        (2.0, lambda node: False, []),
        (400.0, lambda node: False, ["y (8e+04)"]),
        (400.0, lambda node: node.name != "out", ["y (8e+04)"]),  # read in 16 bits
        (400.0, lambda node: True, []),
        (7e4, lambda node: node.name == "out", ["y (1.4e+07)", "weight (7e+04)"]),
    ],
)
def test_overflow_is_named(
    largest: float, keep: Callable[[onnx.NodeProto], bool], found: list[str]
) -> None:
    model = small(largest)
    sizes = activation_ranges(model, np.full((1, 2, 2, 3), 200, np.uint8))
    assert too_large(sizes, model, Rung("fp16", "half", keep)) == found
    assert too_large(sizes, model, Rung("bf16", "brain", keep)) == []


def test_values_that_are_not_finite_overflow() -> None:
    model = small(float("inf"))
    sizes = activation_ranges(model, np.zeros((1, 2, 2, 3), np.uint8))  # 0 times infinity
    found = too_large(sizes, model, Rung("fp16", "half", lambda node: False))
    assert found == ["y (nan)", "weight (inf)"]
