"""ONNX files that would run for ever or fill the memory, made of a good one by hand.

Protobuf joins what stands in a file twice, so nodes are added by appending them.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Sequence

from generalad.runtime.backends.protobuf import field, to_varint

_GRAPH, _NODE, _CONSTANT = 7, 1, 5
_INT64, _FLOAT = 7, 1


def number(place: int, value: int) -> bytes:
    """A field that is a number."""
    return to_varint(place << 3) + to_varint(value % (1 << 64))


def node(operator: str, inputs: Sequence[str], output: str, **attributes: object) -> bytes:
    """A node; attributes are a number, numbers, a text, or the bytes of a tensor."""
    content = b"".join(field(1, name.encode()) for name in inputs)
    content += field(2, output.encode()) + field(4, operator.encode())
    for name, value in attributes.items():
        attribute = field(1, name.encode())
        if isinstance(value, int):
            attribute += number(3, value) + number(20, 2)
        elif isinstance(value, str):
            attribute += field(4, value.encode()) + number(20, 3)
        elif isinstance(value, bytes):
            attribute += field(5, value) + number(20, 4)
        elif isinstance(value, list):
            attribute += b"".join(number(8, one) for one in value) + number(20, 7)
        content += field(5, attribute)
    return content


def constant(name: str, values: Sequence[int] | Sequence[float], shape: Sequence[int]) -> bytes:
    """A tensor of int64, or of float where the first value is one."""
    whole = isinstance(values[0], int)
    data = b"".join(struct.pack("<q" if whole else "<f", value) for value in values)
    content = b"".join(number(1, size) for size in shape)
    content += number(2, _INT64 if whole else _FLOAT)
    return content + field(8, name.encode()) + field(9, data)


def with_nodes(model: bytes, nodes: Sequence[bytes], constants: Sequence[bytes] = ()) -> bytes:
    """A model whose scores also depend on the tensor "big" that `nodes` make.

    They may use "maps", and "scoreX", the scores of the model.
    """
    renamed = model.replace(b"\x12\x06scores", b"\x12\x06scoreX", 1)
    assert renamed != model
    ends = [
        node("Cast", ["big"], "big_float", to=_FLOAT),
        node("ReduceMax", ["big_float"], "big_most", keepdims=0),
        node("Mul", ["big_most", "nought"], "big_nought"),
        node("Add", ["scoreX", "big_nought"], "scores"),
    ]
    parts = [field(_NODE, one) for one in [*nodes, *ends]]
    tensors = [*constants, constant("nought", [0.0], [])]
    parts += [field(_CONSTANT, one) for one in tensors]
    return renamed + field(_GRAPH, b"".join(parts))


def _sized(name: str, *sizes: int) -> bytes:
    return constant(name, sizes, [len(sizes)])


def _doubled(times: int) -> list[bytes]:
    names = ["maps", *(f"twice{number}" for number in range(times - 1)), "big"]
    return [node("Concat", [a, a], b, axis=0) for a, b in itertools.pairwise(names)]


SIDE = 30_000
FLAT = node("Reshape", ["maps", "all"], "column")
COLUMN, ROW = _sized("all", -1, 1), _sized("row", 1, -1)

HOSTILE: dict[str, tuple[list[bytes], list[bytes]]] = {
    "filled": ([node("ConstantOfShape", ["n"], "big")], [_sized("n", SIDE, SIDE)]),
    "expanded": (
        [node("Expand", ["scoreX", "n"], "big")],
        [_sized("n", SIDE, SIDE, 1)],
    ),
    "by what the image holds": (
        [
            node("ReduceSum", ["maps"], "sum", keepdims=0),
            node("Reshape", ["sum", "one"], "sum_1"),
            node("Cast", ["sum_1"], "n", to=_INT64),
            node("ConstantOfShape", ["n"], "big"),
        ],
        [_sized("one", 1)],
    ),
    "tiled": ([node("Tile", ["maps", "n"], "big")], [_sized("n", 1, SIDE, SIDE)]),
    "padded": (
        [node("Pad", ["maps", "n"], "big")],
        [_sized("n", 0, SIDE, SIDE, 0, SIDE, SIDE)],
    ),
    "resized": (
        [
            node("Unsqueeze", ["maps", "one"], "plane"),
            node("Resize", ["plane", "", "", "n"], "big", mode="linear"),
        ],
        [_sized("one", 1), _sized("n", 1, 1, SIDE, SIDE)],
    ),
    "a range": (
        [node("Range", ["a", "b", "c"], "big")],
        [constant(name, [value], []) for name, value in (("a", 0), ("b", SIDE**2), ("c", 1))],
    ),
    "one hot": (
        [
            node("Cast", ["maps"], "whole", to=_INT64),
            node("OneHot", ["whole", "n", "two"], "big"),
        ],
        [constant("n", [SIDE**2], []), constant("two", [0.0, 1.0], [2])],
    ),
    "all pairs by product": (
        [
            node("Tile", ["maps", "few"], "more"),
            node("Reshape", ["more", "all"], "column"),
            node("Transpose", ["column"], "line"),
            node("MatMul", ["column", "line"], "big"),
        ],
        [COLUMN, _sized("few", 1, 40, 40)],
    ),
    "all pairs by broadcast": (
        [
            node("Tile", ["maps", "few"], "more"),
            node("Reshape", ["more", "all"], "column"),
            node("Reshape", ["more", "row"], "line"),
            node("Mul", ["column", "line"], "big"),
        ],
        [COLUMN, ROW, _sized("few", 1, 40, 40)],
    ),
    "doubled 40 times": (_doubled(40), []),
    "transposed convolution": (
        [
            node("Unsqueeze", ["maps", "one"], "plane"),
            node("ConvTranspose", ["plane", "kernel"], "big", strides=[4000, 4000]),
        ],
        [_sized("one", 1), constant("kernel", [1.0], [1, 1, 1, 1])],
    ),
    "convolution with wide edges": (
        [
            node("Unsqueeze", ["maps", "one"], "plane"),
            node("Conv", ["plane", "kernel"], "big", pads=[SIDE, SIDE, SIDE, SIDE]),
        ],
        [_sized("one", 1), constant("kernel", [1.0], [1, 1, 1, 1])],
    ),
    "a constant of fewer values than it says": (
        [node("Identity", ["lie"], "big")],
        [constant("lie", [0.0], [SIDE, SIDE])],
    ),
    "random numbers": ([node("RandomNormal", [], "big", shape=[SIDE, SIDE])], []),
    "an operator of elsewhere": ([node("FusedThing", ["maps"], "big")], []),
    "work without end": (
        [
            node("Tile", ["maps", "few"], "more"),
            node("Reshape", ["more", "square"], "a0"),
            *(node("MatMul", [f"a{n}", f"a{n}"], f"a{n + 1}") for n in range(2000)),
            node("Identity", ["a2000"], "big"),
        ],
        [_sized("few", 1, 16, 16), _sized("square", 2048, 2048)],
    ),
}
"""Nodes and constants that make "big", by what they do."""


def mutated_graph(model: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A model with hostile nodes, some of whose numbers are others."""
    name = rng.choice(list(HOSTILE))
    nodes, constants = HOSTILE[name]
    data = with_nodes(model, nodes, constants)
    if rng.random() < 0.6:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 3, 9))):
            changed[rng.randrange(len(model), len(changed))] ^= 1 << rng.randrange(8)
        data = bytes(changed)
    return data, name
