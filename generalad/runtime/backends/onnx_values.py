"""Small values that a graph computes from sizes alone, such as the shape that it reshapes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.runtime.backends.onnx_reader import MOST_VALUES, Node, Shape, Tensor

Values = NDArray[Any]
_DEEPEST = 100
"""Operators between a size and its use."""


class SmallValues:
    """The values of small tensors, worked out when they are asked for."""

    def __init__(
        self,
        constants: Mapping[bytes, Tensor],
        makers: Mapping[bytes, Node],
        shapes: Mapping[bytes, Shape],
    ) -> None:
        """`makers` has the node that makes a tensor, `shapes` those that are known so far."""
        self._constants, self._makers, self._shapes = constants, makers, shapes
        self._known: dict[bytes, Values | None] = {}

    def of(self, name: bytes, depth: int = 0) -> Values | None:
        """The values of a tensor; None where they depend on the image, or are many."""
        if name in self._constants:
            return self._constants[name].values
        if name not in self._known:
            self._known[name] = self._made(name, depth)
        return self._known[name]

    def _made(self, name: bytes, depth: int) -> Values | None:
        node, shape = self._makers.get(name), self._shapes.get(name)
        if node is None or shape is None or depth > _DEEPEST:
            return None
        if node.operator == "Shape":
            return self._shape(node)
        if node.operator == "Size":
            return np.array(np.prod(self._shapes[node.inputs[0]], dtype=np.int64))
        if node.operator == "Constant":
            return constant_of(node)
        rule = _RULES.get(node.operator)
        if rule is None or np.prod(shape, dtype=np.float64) > MOST_VALUES:
            return None
        inputs = [self.of(one, depth + 1) if one else None for one in node.inputs]
        if any(value is None for one, value in zip(node.inputs, inputs, strict=True) if one):
            return None
        try:
            with np.errstate(all="ignore"):
                return np.asarray(rule(node, shape, inputs))
        except (ValueError, TypeError, IndexError):  # what does not fit, loading says
            return None

    def _shape(self, node: Node) -> Values:
        shape = self._shapes[node.inputs[0]]
        last = node.ints("end")
        return np.array(shape[slice(node.integer("start", 0), last[0] if last else None)], np.int64)


def constant_of(node: Node) -> Values | None:
    """The values of a node called Constant; None where they are many or no numbers."""
    if tensor := node.tensor("value"):
        return tensor.values
    for name, shape in (("value_int", ()), ("value_ints", (-1,))):
        if (whole := node.ints(name)) is not None:
            return np.array(whole, np.int64).reshape(shape)
    for name, shape in (("value_float", ()), ("value_floats", (-1,))):
        if numbers := node.floats(name):
            return np.array(numbers).reshape(shape)
    return None


def _slice(node: Node, shape: Shape, inputs: list[Any]) -> Values:
    data, starts, ends = inputs[:3]
    axes = inputs[3] if len(inputs) > 3 and inputs[3] is not None else range(len(starts))
    steps = inputs[4] if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = [slice(None)] * data.ndim
        last = None if step < 0 and end < -data.shape[axis] else int(end)
        place[int(axis)] = slice(int(start), last, int(step))
        data = data[tuple(place)]
    return np.asarray(data)


def _cast(node: Node, shape: Shape, inputs: list[Any]) -> Values:
    whole = node.integer("to", 1) in (2, 3, 4, 5, 6, 7, 9, 12, 13)
    return np.asarray(inputs[0]).astype(np.int64 if whole else np.float64)


def _filled(node: Node, shape: Shape, inputs: list[Any]) -> Values:
    tensor = node.tensor("value")
    filling = 0 if tensor is None or tensor.values is None else tensor.values.ravel()[0]
    return np.full(shape, filling)


def _divided(node: Node, shape: Shape, inputs: list[Any]) -> Values:
    left, right = inputs
    if np.issubdtype(left.dtype, np.integer):
        return np.asarray(np.trunc(left / right).astype(np.int64))
    return np.asarray(left / right)


_RULES: dict[str, Callable[[Node, Shape, list[Any]], Any]] = {
    "Gather": lambda node, shape, x: np.take(x[0], x[1], node.integer("axis", 0)),
    "Concat": lambda node, shape, x: np.concatenate(x, node.integer("axis", 0)),
    "Slice": _slice,
    "Cast": _cast,
    "ConstantOfShape": _filled,
    "Div": _divided,
    **dict.fromkeys(
        ("Reshape", "Squeeze", "Unsqueeze", "Flatten"),
        lambda node, shape, x: x[0].reshape(shape),
    ),
    "Identity": lambda node, shape, x: x[0],
    "Expand": lambda node, shape, x: np.broadcast_to(x[0], shape),
    "Add": lambda node, shape, x: x[0] + x[1],
    "Sub": lambda node, shape, x: x[0] - x[1],
    "Mul": lambda node, shape, x: x[0] * x[1],
    "Mod": lambda node, shape, x: np.mod(x[0], x[1]),
    "Max": lambda node, shape, x: np.maximum.reduce(np.broadcast_arrays(*x)),
    "Min": lambda node, shape, x: np.minimum.reduce(np.broadcast_arrays(*x)),
    "Equal": lambda node, shape, x: x[0] == x[1],
    "Where": lambda node, shape, x: np.where(*x),
    "Neg": lambda node, shape, x: -x[0],
    "Floor": lambda node, shape, x: np.floor(x[0]),
    "Ceil": lambda node, shape, x: np.ceil(x[0]),
    "Round": lambda node, shape, x: np.round(x[0]),
    "Sqrt": lambda node, shape, x: np.sqrt(x[0]),
    "ReduceProd": lambda node, shape, x: np.prod(x[0]).reshape(shape),
    "Range": lambda node, shape, x: np.arange(x[0].item(), x[1].item(), x[2].item())[: shape[0]],
}
