"""Half precision in the graph itself: which nodes keep 32 bits, and the graph that follows from it.

Written into the graph, a precision means the same to every runtime; TensorRT 11 has no other way.
The converter that comes with ONNX Runtime rounds to 16 bits between any two nodes that were to stay
in 32, so a head that was kept would return rounded scores all the same; hence `lower`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

LARGEST_HALF = 65504.0
"""Largest finite float16."""

OPSET = 20
"""Has LayerNormalization and Gelu, and keeps attention as products that every engine fuses."""

FLOAT = TensorProto.FLOAT
TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_NUMPY: dict[int, Any] = {TensorProto.FLOAT16: np.float16, TensorProto.BFLOAT16: ml_dtypes.bfloat16}
_SCOPES = "pkg.torch.onnx.name_scopes"
_NETWORKS = (
    *("backbone", "head.discriminator.blocks"),
    *("head.adaptor", "head.student.patch_embed", "head.student.blocks"),
)
"""Scopes of what is large; the rest makes scores of it."""

_INPUT_LAYER = re.compile(
    r"(backbone\.body|head\.student)\.(patch_embed|conv_stem|conv1|bn1|stem)\b"
)
"""Scopes of the first layer of ViTs, EfficientNets, ResNets and ConvNeXts."""

_ALWAYS_FLOAT = {"Resize": (1, 2)}
"""Inputs that the standard fixes at 32 bits: region and scales."""

Keep = Callable[[NodeProto], bool]


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Attributes:
        precision: "fp16", "bf16" or "fp32".
        name: what is printed and recorded.
        keep: whether a node keeps 32 bits.
        bfloat16: names of nodes that compute in bfloat16 where the rest is in float16.
    """

    precision: str
    name: str
    keep: Keep
    bfloat16: frozenset[str] = frozenset()


def ladder(model: onnx.ModelProto) -> tuple[Rung, ...]:
    """From all of the network in float16 to none of it; a rung is taken when the one before fails.

    The score head, the input's normalisation and the maps always keep 32 bits. A rung that keeps
    the same nodes as the one before is left out, such as LayerNorm in a network without any.
    """
    last = last_block(model)
    core = attention_core(model, lambda node: not is_head(node))

    def norms(node: NodeProto) -> bool:
        return is_head(node) or node.op_type == "LayerNormalization"

    def softmax(node: NodeProto) -> bool:
        return norms(node) or node.op_type == "Softmax"

    def blocks(node: NodeProto) -> bool:
        scope = f"{scope_of(node)}."
        return softmax(node) or scope.startswith(("head.", last))

    def without_bfloat16(node: NodeProto) -> bool:
        return is_head(node) or not _takes_bfloat16(node.op_type)

    rungs = (
        Rung("fp16", "fp16", is_head),
        Rung("fp16", "fp16, LayerNorm in fp32", norms),
        # Engines fuse the core to one kernel, in which float16 may overflow; bfloat16 has the range
        # of float32 and keeps it fused.
        Rung("fp16", "fp16, LayerNorm in fp32, attention in bf16", norms, core),
        Rung("fp16", "fp16, LayerNorm and Softmax in fp32", softmax),
        Rung("fp16", "fp16, LayerNorm, Softmax and the last blocks in fp32", blocks),
        Rung("bf16", "bf16", without_bfloat16),
        Rung("fp32", "fp32", lambda node: True),
    )
    found: list[Rung] = []
    seen: list[tuple[Any, ...]] = []
    for rung in rungs:
        kept = [rung.keep(node) for node in model.graph.node]
        this = (rung.precision, kept, rung.bfloat16)
        if this not in seen:
            found.append(rung)
            seen.append(this)
    return tuple(found)


def attention_core(model: onnx.ModelProto, chosen: Keep) -> frozenset[str]:
    """Names of the products of query and key, and of probabilities and value, and their Softmax.

    Args:
        model: float32, as made by `to_onnx`.
        chosen: which Softmax is meant.
    """
    softmax = [n for n in model.graph.node if n.op_type == "Softmax" and chosen(n)]
    inputs, outputs = ({tensors[0] for tensors in found} for found in (
        [n.input for n in softmax], [n.output for n in softmax]))  # fmt: skip
    products = [
        node
        for node in model.graph.node
        if node.op_type == "MatMul" and (inputs & set(node.output) or outputs & set(node.input))
    ]
    return frozenset(node.name for node in (*softmax, *products))


def processor_ladder(model: onnx.ModelProto) -> tuple[tuple[str, Keep], ...]:
    """The rungs for processors that compute in half precision themselves, named by what they keep.

    They are those of float16, with what bfloat16 needs: of eight bits of a pixel or of a sum over
    many blocks it keeps eight, where neighbours that hardly differ drown.
    """
    weights = {item.name for item in model.graph.initializer}
    sums = {
        node.name
        for node in model.graph.node
        if node.op_type == "Add" and not weights & set(node.input)
    }

    def inputs(node: NodeProto) -> bool:
        return is_head(node) or bool(_INPUT_LAYER.match(scope_of(node)))

    def residuals(node: NodeProto) -> bool:
        return inputs(node) or node.name in sums

    found: list[tuple[str, Keep]] = [("", is_head), (", input layer in fp32", inputs)]
    rungs = [rung for rung in ladder(model) if rung.precision == "fp16" and not rung.bfloat16]
    found.append((", input layer and sums in fp32", residuals))
    for rung in rungs[1:]:
        kept = rung.name.removeprefix("fp16, ")
        found.append((f", input layer, sums, {kept}", partial(_either, residuals, rung.keep)))
    return tuple(found)


def _either(one: Keep, other: Keep, node: NodeProto) -> bool:
    return one(node) or other(node)


def scope_of(node: NodeProto) -> str:
    """The module a node came from, such as "backbone.body.blocks.3.attn.qkv"; "" at the top."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            scopes = ast.literal_eval(entry.value)  # of the modules, then the node's own name
            return str(scopes[-2]) if len(scopes) > 1 else ""
    return ""


def is_head(node: NodeProto) -> bool:
    """Whether a node belongs to none of the large networks of backbone and head."""
    return not scope_of(node).startswith(_NETWORKS)


def _takes_bfloat16(operator: str) -> bool:
    """Whether the standard lets an operator compute in bfloat16; Conv, for one, does not yet."""
    schema = onnx.defs.get_schema(operator, OPSET)
    main = schema.inputs[0].type_str
    allowed = [c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == main]
    return any("tensor(bfloat16)" in types for types in allowed)


def last_block(model: onnx.ModelProto) -> str:
    """Start of the scopes of the backbone's last block; of none for a CNN, which has no blocks."""
    numbers = [
        int(found.group(1))
        for node in model.graph.node
        if (found := re.match(r"backbone\.body\.blocks\.(\d+)(?:\.|$)", scope_of(node)))
    ]
    return f"backbone.body.blocks.{max(numbers)}." if numbers else "head."


def lower(
    model: onnx.ModelProto, precision: str, keep: Keep, bfloat16: Collection[str] = ()
) -> onnx.ModelProto:
    """A copy whose nodes compute in 16 bits, except those that are kept.

    Every tensor has the type of the node that makes it and is cast once for all nodes that want the
    other. Inputs and outputs of the graph keep their types.

    Args:
        model: float32, as made by `to_onnx`.
        precision: "fp16" or "bf16".
        keep: whether a node stays in float32.
        bfloat16: see `Rung`.
    """
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    low = TYPES[precision]

    def type_of(node: NodeProto) -> int:
        if keep(node):
            return FLOAT
        return TYPES["bf16"] if node.name in bfloat16 else low

    _Lowering(lowered.graph, type_of).run()
    return lowered


class _Lowering:
    """Rewrites one graph in place."""

    def __init__(self, graph: onnx.GraphProto, type_of: Callable[[NodeProto], int]) -> None:
        self.graph, self.type_of = graph, type_of
        self.weights = {item.name: item for item in graph.initializer}
        known = [*graph.value_info, *graph.input, *graph.output]
        self.types = {item.name: item.type.tensor_type.elem_type for item in known}
        self.types |= {name: item.data_type for name, item in self.weights.items()}
        self.nodes: list[NodeProto] = []
        self.copies: dict[tuple[str, int], str] = {}
        self.new_weights: dict[str, TensorProto] = {}

    def run(self) -> None:
        """Rewrite all nodes, then the tables of weights and types."""
        outputs = {item.name for item in self.graph.output}
        for node in self.graph.node:
            self._rewrite(node, FLOAT if outputs & set(node.output) else self.type_of(node))
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept_weights = [item for item in self.graph.initializer if item.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend([*kept_weights, *self.new_weights.values()])
        for item in self.graph.value_info:
            item.type.tensor_type.elem_type = self.types[item.name]

    def _rewrite(self, node: NodeProto, wanted: int) -> None:
        fixed = _ALWAYS_FLOAT.get(node.op_type, ())
        for place, name in enumerate(node.input):
            if self._is_float(name):
                node.input[place] = self._as(name, FLOAT if place in fixed else wanted)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
                attribute.i = wanted
        for name in node.output:
            if self._is_float(name):
                self.types[name] = wanted
        self.nodes.append(node)

    def _is_float(self, name: str) -> bool:
        return self.types.get(name) in (FLOAT, *_NUMPY)

    def _as(self, name: str, wanted: int) -> str:
        """The name under which tensor `name` is found with the wanted type."""
        if self.types[name] == wanted:
            return name
        if (name, wanted) not in self.copies:
            copy = f"{name}_{TensorProto.DataType.Name(wanted).lower()}"
            self.copies[name, wanted] = copy
            if name in self.weights:
                values = numpy_helper.to_array(self.weights[name]).astype(_NUMPY[wanted])
                self.new_weights[copy] = numpy_helper.from_array(values, copy)
            else:
                cast = onnx.helper.make_node("Cast", [name], [copy], f"cast_{copy}", to=wanted)
                self.nodes.append(cast)
        return self.copies[name, wanted]


def too_large(activation_ranges: dict[str, float], model: onnx.ModelProto, rung: Rung) -> list[str]:
    """Tensors that overflow float16 where the rung computes in it, with their largest value.

    Args:
        activation_ranges: largest absolute value of each tensor, see `activation_ranges`.
        model: float32.
        rung: to be judged.
    """
    if rung.precision != "fp16":
        return []
    halves = [n for n in model.graph.node if not rung.keep(n) and n.name not in rung.bfloat16]
    low = {name for node in halves for name in node.output}
    read = {name for node in halves for name in node.input}
    weights = {
        item.name: float(np.abs(numpy_helper.to_array(item)).max(initial=0))
        for item in model.graph.initializer
        if item.name in read and item.data_type == FLOAT
    }
    found = {
        name: value for name, value in activation_ranges.items() if name in low | read
    } | weights
    return [f"{name} ({value:.3g})" for name, value in found.items() if not value <= LARGEST_HALF]
