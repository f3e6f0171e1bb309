"""The shapes of the tensors of an ONNX graph, for one image, before anything runs."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from generalad.runtime.backends.onnx_reader import Model, Node, Shape
from generalad.runtime.backends.onnx_values import SmallValues


class NotOurs(Exception):
    """What a graph has that no export has."""


class Sizes:
    """Shapes of the tensors of a graph, found one node after another."""

    def __init__(self, model: Model, inputs: dict[bytes, Shape]) -> None:
        """`inputs` has the shapes of the images."""
        self.shapes = {name: one.shape for name, one in model.constants.items()} | inputs
        self.constants = model.constants
        makers = {name: node for node in model.nodes for name in node.outputs}
        self._values = SmallValues(model.constants, makers, self.shapes)

    def shape(self, node: Node, number: int) -> Shape:
        """That of an input of a node."""
        return self.shapes[node.inputs[number]]

    def values(self, node: Node, number: int, attribute: str = "") -> list[Any] | None:
        """Those of an input, or of the attribute that older versions had; None without either."""
        if attribute and (found := node.ints(attribute)) is not None:
            return found
        if number >= len(node.inputs) or not node.inputs[number]:
            return None
        values = self._values.of(node.inputs[number])
        if values is None:
            raise NotOurs(f"{node.operator} whose size is not decided by the graph alone")
        return [value.item() for value in values.ravel()]

    def whole(self, node: Node, number: int, attribute: str = "") -> list[int]:
        """As `values`, whole numbers that must be there."""
        found = self.values(node, number, attribute)
        if found is None:
            raise ValueError("a size is missing")
        return [int(value) for value in found]


def broadcast(*shapes: Shape) -> Shape:
    """The common shape; the larger size where two do not fit, which loading refuses."""
    turned = zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1)
    return tuple(0 if 0 in sizes else max(sizes) for sizes in turned)[::-1]
