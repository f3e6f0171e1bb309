"""What a graph costs at least: floating-point operations and bytes, counted from its ONNX file.

    count(path, batch=1) -> Cost

Counted are matrix products and convolutions, two operations for a multiplication and an addition;
attention is made of products. Everything else is cheap in arithmetic and can be done on the way.
Bytes are those that must move whatever the library does: the weights once, the images in, the
scores and maps out. What lies between layers can stay in a cache and is left out, so that the time
that follows is a lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from generalad.errors import ArtifactError, require_extra

if TYPE_CHECKING:
    import onnx

Precision = Literal["fp32", "fp16", "int8"]

_PRODUCTS = {
    # Places of the two factors among a node's inputs.
    "MatMul": (0, 1),
    "Gemm": (0, 1),
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "MatMulInteger": (0, 1),
    "ConvInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "QLinearConv": (0, 3),
}
_INTEGER = ("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")
_NOT_COUNTED = frozenset(
    {"Attention", "Einsum", "LSTM", "GRU", "RNN", "DeformConv", "If", "Loop", "Scan"}
)
"""Operators that hold products of their own, which no export of ours uses."""

_CARRIES_VALUES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity")
"""What may stand between a DequantizeLinear and its product without changing the values."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """Of one image, at the batch size that was counted.

    Attributes:
        flops: by the precision of the factors: "fp32", "fp16", "int8".
        bytes: weights (shared by the batch), image, scores and map.
    """

    flops: dict[Precision, float]
    bytes: float

    @property
    def total(self) -> float:
        """Operations of all precisions."""
        return sum(self.flops.values())


def count(path: Path, *, batch: int = 1) -> Cost:
    """Count an ONNX file; weights in a file of their own are not read.

    Args:
        path: of the ONNX file.
        batch: images in a run; a size that the graph fixes is taken instead.

    Raises:
        ArtifactError: not an ONNX file, or a graph whose cost cannot be counted.
        MissingExtraError: `onnx` is not installed.
    """
    require_extra("counting a graph's operations", "bench", "onnx")
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors, of which onnx has no base class
        raise ArtifactError(
            f"{path}: not an ONNX file, or damaged", remedy="copy the file again"
        ) from error
    return count_model(model, batch=batch, name=path.name)


def count_model(model: onnx.ModelProto, *, batch: int = 1, name: str = "the model") -> Cost:
    """Count a model in memory, see `count`; it is changed: its shapes become fixed."""
    import onnx

    batch = _fix_batch(model, batch)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph = _Graph(model, name)
    flops: dict[Precision, float] = {}
    for node in model.graph.node:
        if node.op_type in _NOT_COUNTED:
            raise ArtifactError(f"{name}: {node.op_type} is not counted")
        if node.op_type in _PRODUCTS:
            precision = graph.precision(node)
            flops[precision] = flops.get(precision, 0.0) + graph.flops(node) / batch
    return Cost(flops, graph.bytes_moved() / batch)


def _fix_batch(model: onnx.ModelProto, batch: int) -> int:
    """Write the batch size into the inputs and forget the shapes that followed from a free one."""
    del model.graph.value_info[:]
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in stored or not value.type.tensor_type.shape.dim:
            continue
        first = value.type.tensor_type.shape.dim[0]
        if first.HasField("dim_value"):
            batch = first.dim_value
        else:
            first.dim_value = batch
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return batch


class _Graph:
    """Shapes, element types and makers of a graph's tensors."""

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self._model, self._name = model, name
        self._shapes: dict[str, Shape] = {}
        self._types: dict[str, int] = {}
        graph = model.graph
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            self._types[value.name] = tensor.elem_type
            dims = tensor.shape.dim
            if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
                self._shapes[value.name] = tuple(dim.dim_value for dim in dims)
        for key, stored in self._weights():
            self._shapes[key] = tuple(stored.dims)
            self._types[key] = stored.data_type
        self._maker = {output: node for node in graph.node for output in node.output}

    def _weights(self) -> Iterator[tuple[str, onnx.TensorProto]]:
        """Stored tensors by name, those of Constant nodes too."""
        for tensor in self._model.graph.initializer:
            yield tensor.name, tensor
        for node in self._model.graph.node:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        yield node.output[0], attribute.t

    def flops(self, node: onnx.NodeProto) -> float:
        """Two for each multiplication: outputs times the length of the sum that each one is."""
        first, second = (self._shape(node.input[place]) for place in _PRODUCTS[node.op_type])
        if node.op_type == "ConvTranspose":  # (C, M / groups, ...): the sum runs the other way
            return 2.0 * math.prod(first) * math.prod(second[1:])
        outputs = math.prod(self._shape(node.output[0]))
        if node.op_type.endswith(("Conv", "ConvInteger")):  # (M, C / groups, ...)
            return 2.0 * outputs * math.prod(second[1:])
        turned = any(item.name == "transA" and item.i for item in node.attribute)
        return 2.0 * outputs * first[0 if turned else -1]

    def precision(self, node: onnx.NodeProto) -> Precision:
        """In which a product is done: eight bits where both factors come from eight bits."""
        import onnx

        factors = [node.input[place] for place in _PRODUCTS[node.op_type]]
        if node.op_type in _INTEGER or all(map(self._from_integers, factors)):
            return "int8"
        halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
        return "fp16" if self._types.get(factors[0]) in halves else "fp32"

    def _from_integers(self, tensor: str) -> bool:
        node = self._maker.get(tensor)
        while node is not None and node.op_type in _CARRIES_VALUES:
            node = self._maker.get(node.input[0])
        return node is not None and node.op_type == "DequantizeLinear"

    def bytes_moved(self) -> float:
        """Weights, inputs and outputs, each once."""
        graph = self._model.graph
        stored = {name for name, _ in self._weights()}
        ends = {value.name for value in (*graph.input, *graph.output)}
        return float(sum(map(self._bytes, stored | ends)))

    def _bytes(self, tensor: str) -> int:
        from onnx.helper import tensor_dtype_to_np_dtype

        return (
            math.prod(self._shape(tensor)) * tensor_dtype_to_np_dtype(self._types[tensor]).itemsize
        )

    def _shape(self, tensor: str) -> Shape:
        if tensor not in self._shapes:
            raise ArtifactError(f"{self._name}: the shape of {tensor} cannot be inferred")
        return self._shapes[tensor]
