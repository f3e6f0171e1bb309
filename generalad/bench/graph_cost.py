"""What a graph costs at least: floating-point operations and bytes, counted from its ONNX file.

Counted are matrix products and convolutions, two operations for a multiplication and an addition;
all else is cheap in arithmetic. Bytes are those that must move: weights once, images in, scores and
maps out. What lies between layers can stay in a cache, so the time that follows is a lower bound.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from generalad.errors import ArtifactError, require_extra

if TYPE_CHECKING:
    import onnx

Precision = Literal["fp32", "fp16", "bf16", "int8"]

_FLOAT_PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
_INTEGER_PRODUCTS = ("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")
_NOT_COUNTED = ("Attention", "Einsum", "LSTM", "GRU", "RNN", "DeformConv", "If", "Loop", "Scan")
"""Operators that hold products of their own, which no export of ours uses."""

_CARRIES_VALUES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity")
"""What may stand between a DequantizeLinear and its product without changing the values."""


@dataclass(frozen=True)
class Cost:
    """Of one image, at the batch size that was counted."""

    flops: dict[Precision, float]  # by the precision of the factors
    bytes: float  # weights (shared by the batch), image, scores and map

    @property
    def total(self) -> float:
        """Operations of all precisions."""
        return sum(self.flops.values())


def count(path: Path, *, batch: int = 1) -> Cost:
    """Count an ONNX file at a batch size, or at the one that the graph fixes.

    Raises:
        ArtifactError: not an ONNX file, or a graph whose cost cannot be counted.
        MissingExtraError: `onnx` is not installed.
    """
    require_extra("counting a graph's operations", "bench", "onnx")
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors, of which onnx has no base class
        message = f"{path}: not an ONNX file, or damaged"
        raise ArtifactError(message, remedy="copy the file again") from error
    return count_model(model, batch=batch, name=path.name)


def count_model(model: onnx.ModelProto, *, batch: int = 1, name: str = "the model") -> Cost:
    """Count a model in memory, see `count`; it is changed: its shapes become fixed."""
    import onnx

    batch = _fix_batch(model, batch)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph, flops = _Graph(model, name), defaultdict[Precision, float](float)
    for node in model.graph.node:
        if node.op_type in _NOT_COUNTED:
            raise ArtifactError(f"{name}: {node.op_type} is not counted")
        if node.op_type in _FLOAT_PRODUCTS + _INTEGER_PRODUCTS:
            flops[graph.precision(node)] += graph.flops(node) / batch
    return Cost(dict(flops), graph.bytes_moved() / batch)


def _fix_batch(model: onnx.ModelProto, batch: int) -> int:
    """Write the batch size into the inputs and forget the shapes that followed from a free one."""
    del model.graph.value_info[:]
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in stored and value.type.tensor_type.shape.dim:
            first = value.type.tensor_type.shape.dim[0]
            batch = first.dim_value = first.dim_value or batch
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return batch


class _Graph:
    """Shapes, element types and makers of a graph's tensors."""

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        graph, self._name = model.graph, name
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, int] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            self._types[value.name] = tensor.elem_type
            dims = tensor.shape.dim
            if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
                self._shapes[value.name] = tuple(dim.dim_value for dim in dims)
        constants = [node for node in graph.node if node.op_type == "Constant"]
        stored = {tensor.name: tensor for tensor in graph.initializer}
        stored |= {c.output[0]: a.t for c in constants for a in c.attribute if a.name == "value"}
        for key, tensor in stored.items():
            self._shapes[key], self._types[key] = tuple(tensor.dims), tensor.data_type
        self._maker = {output: node for node in graph.node for output in node.output}
        self._moved = stored.keys() | {value.name for value in (*graph.input, *graph.output)}

    def flops(self, node: onnx.NodeProto) -> float:
        """Two for each multiplication: outputs times the length of the sum that each one is."""
        first, second = (self._shape(factor) for factor in _factors(node))
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

        factors = _factors(node)
        if node.op_type in _INTEGER_PRODUCTS or all(map(self._from_integers, factors)):
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
        from onnx.helper import tensor_dtype_to_np_dtype as dtype

        sizes = (math.prod(self._shape(t)) * dtype(self._types[t]).itemsize for t in self._moved)
        return float(sum(sizes))

    def _shape(self, tensor: str) -> tuple[int, ...]:
        if tensor not in self._shapes:
            raise ArtifactError(f"{self._name}: the shape of {tensor} cannot be inferred")
        return self._shapes[tensor]


def _factors(node: onnx.NodeProto) -> tuple[str, str]:
    """The two factors among a product's inputs; the others are scales and zero points."""
    return node.input[0], node.input[3 if node.op_type.startswith("QLinear") else 1]
