"""The graph of a frame: cut into tiles, the network on one tile after another, stitched.

The tiles pass through one ONNX `Scan`, a loop over the first axis of a tensor: as often as there
are tiles, which the graph itself says. So its memory is that of one tile, beside the frame and its
tiles as bytes; ONNX Runtime and OpenVINO run it. The weights stand in the outer graph, once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from generalad.geometry.tiling import starts
from generalad.model.detector import Detector
from generalad.model.frame import Frame
from generalad.spec import INPUT_NAME, OUTPUT_NAMES


class TileScores(nn.Module):
    """Tiles (B, side, side, 3) uint8 to patch scores (B, N): what the loop does."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.detector.patches(images)[0]


class FrameScores(nn.Module):
    """Patch scores of tiles (T, B, N) to scores (B,) and maps (B, h, w): what comes after it."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        frame = self.detector.frame
        assert frame is not None
        patches = frame.stitch(tiles.permute(1, 0, 2))
        return self.detector.scores(patches), self.detector.maps(patches)


def join(tile: onnx.ModelProto, after: onnx.ModelProto, frame: Frame) -> onnx.ModelProto:
    """The graph of a whole frame.

    Args:
        tile: `TileScores` as ONNX, with one input and one output.
        after: `FrameScores` as ONNX.
        frame: where the tiles lie.
    """
    body, rest = _prefixed(tile.graph, "tile."), _prefixed(after.graph, "frame.")
    constants, nodes, tiles = _cut(frame)
    scores = "tiles.scores"
    weights = list(body.initializer)
    del body.initializer[:], body.value_info[:]
    body.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    body.name = "tile"
    nodes.append(
        helper.make_node("Scan", [tiles], [scores], "tiles.loop", body=body, num_scan_inputs=1)
    )
    _renamed(rest, {rest.input[0].name: scores})
    outputs = [one.name for one in rest.output]
    _renamed(rest, dict(zip(outputs, OUTPUT_NAMES, strict=True)))
    height, width = frame.size
    images = helper.make_tensor_value_info(
        INPUT_NAME, TensorProto.UINT8, ["batch", height, width, 3]
    )
    graph = helper.make_graph(
        [*nodes, *rest.node],
        "frame",
        [images],
        list(rest.output),
        [*constants, *weights, *rest.initializer],
    )
    return helper.make_model(
        graph, opset_imports=list(tile.opset_import), ir_version=tile.ir_version
    )


def _cut(frame: Frame) -> tuple[list[TensorProto], list[onnx.NodeProto], str]:
    """Nodes from images (B, H, W, 3) to tiles (T, B, side, side, 3), and the name of these."""
    side, width = frame.tiles.side, frame.size[1]
    rows, columns = (starts(length, frame.tiles) for length in frame.size)
    down, across = len(rows), len(columns)

    def pixels(first: list[int]) -> np.ndarray:
        return np.concatenate([np.arange(one, one + side) for one in first]).astype(np.int64)

    values = {
        "rows": pixels(rows),
        "columns": pixels(columns),
        "shape.rows": np.array([0, down, side, width, 3], np.int64),
        "shape.columns": np.array([0, down, side, across, side, 3], np.int64),
        "shape.tiles": np.array([down * across, -1, side, side, 3], np.int64),
    }
    constants = [numpy_helper.from_array(value, f"cut.{name}") for name, value in values.items()]
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Gather", [INPUT_NAME, "cut.rows"], {"axis": 1}),
        ("Reshape", ["cut.0", "cut.shape.rows"], {}),
        ("Gather", ["cut.1", "cut.columns"], {"axis": 3}),
        ("Reshape", ["cut.2", "cut.shape.columns"], {}),
        ("Transpose", ["cut.3"], {"perm": [1, 3, 0, 2, 4, 5]}),
        ("Reshape", ["cut.4", "cut.shape.tiles"], {}),
    ]
    nodes = [
        helper.make_node(kind, inputs, [f"cut.{number}"], f"cut.node.{number}", **attributes)
        for number, (kind, inputs, attributes) in enumerate(steps)
    ]
    return constants, nodes, f"cut.{len(steps) - 1}"


def _prefixed(graph: onnx.GraphProto, prefix: str) -> onnx.GraphProto:
    """A copy in which every tensor and node has another name than in another graph."""
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    names = {name for node in copy.node for name in (*node.input, *node.output)}
    names |= {item.name for item in (*copy.input, *copy.output, *copy.initializer)}
    _renamed(copy, {name: prefix + name for name in names if name})
    for node in copy.node:
        node.name = prefix + node.name
    return copy


def _renamed(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Give tensors other names, in place."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for item in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        item.name = names.get(item.name, item.name)
