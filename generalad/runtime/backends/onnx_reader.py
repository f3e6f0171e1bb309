"""What an ONNX file holds, read without an ONNX library: its nodes, and the shapes of its weights.

The weights themselves are passed over, so that a large file costs no more than a small one. Numbers
of fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.runtime.backends.protobuf import Bytes, fields, int64s, varint

Shape = tuple[int, ...]
MOST_VALUES = 1024
"""Elements of a tensor whose values are looked at: sizes, axes, pads."""

_TYPES = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
_VALUES = {4: "<f4", 10: "<f8"}  # packed numbers of fixed length, by field


class Tensor(NamedTuple):
    """A constant: its shape, and its values where they are few and of a usual type.

    Attributes:
        apart: the file beside it that holds its values, or empty.
    """

    shape: Shape
    values: NDArray[Any] | None
    apart: bytes = b""


class Node:
    """An operator. Names are bytes, as they stand in the file; attributes are read when asked."""

    def __init__(self, data: bytes) -> None:
        self.inputs: list[bytes] = []
        self.outputs: list[bytes] = []
        self._attributes: list[bytes] = []
        self._by_name: dict[bytes, bytes] | None = None
        operator = domain = b""
        for number, _, first, end in fields(data, 0, len(data)):
            if number == 1:
                self.inputs.append(data[first:end])
            elif number == 2:
                self.outputs.append(data[first:end])
            elif number == 4:
                operator = data[first:end]
            elif number == 5:
                self._attributes.append(data[first:end])
            elif number == 7:
                domain = data[first:end]
        self.operator = operator.decode("ascii", "replace")
        self.domain = domain.decode("ascii", "replace")

    def ints(self, name: str) -> list[int] | None:
        """An attribute that is one number or several; None where it is not there."""
        content = self._attribute(name)
        if content is None:
            return None
        found: list[int] = []
        for number, _, first, end in fields(content, 0, len(content)):
            if number in (3, 8):  # i, ints
                found += int64s(content, first, end)
        return found

    def integer(self, name: str, usual: int) -> int:
        """An attribute that is a number."""
        return (self.ints(name) or [usual])[-1]

    def text(self, name: str) -> bytes:
        """An attribute that is a text; empty where it is not there."""
        content = self._attribute(name) or b""
        parts = {number: (a, b) for number, _, a, b in fields(content, 0, len(content))}
        return content[slice(*parts.get(4, (0, 0)))]

    def floats(self, name: str) -> list[float]:
        """An attribute that is several numbers with a fraction."""
        content = self._attribute(name) or b""
        parts = [
            content[a:b] for number, _, a, b in fields(content, 0, len(content)) if number in (2, 7)
        ]
        return [float(value) for part in parts for value in np.frombuffer(part, "<f4")]

    def tensor(self, name: str) -> Tensor | None:
        """An attribute that is a tensor."""
        content = self._attribute(name)
        if content is None:
            return None
        found = [
            read_tensor(content, first, end)[1]
            for number, _, first, end in fields(content, 0, len(content))
            if number == 5
        ]
        return found[0] if len(found) == 1 else None

    def graph(self, name: str) -> Model | None:
        """An attribute that is a graph."""
        content = self._attribute(name)
        if content is None:
            return None
        model = Model()
        for number, _, first, end in fields(content, 0, len(content)):
            if number == 6:
                _read_graph(model, content, first, end)
        return model

    def _attribute(self, name: str) -> bytes | None:
        if self._by_name is None:
            self._by_name = {_name_of(content): content for content in self._attributes}
            if len(self._by_name) < len(self._attributes):
                raise ValueError("an attribute that is there twice")
        return self._by_name.get(name.encode())


def _name_of(attribute: bytes) -> bytes:
    if attribute[:1] == b"\x0a" and attribute[1] < 0x80:  # as all libraries write it
        return attribute[2 : 2 + attribute[1]]
    parts = fields(attribute, 0, len(attribute))
    return b"".join(attribute[first:end] for number, _, first, end in parts if number == 1)


class Model:
    """What an ONNX file holds.

    Attributes:
        nodes: in the order of the file, which is one in which they can run.
        constants: by name.
        inputs: shapes by name, those of `constants` too; None stands for a size that is free.
        outputs: their names.
        odd: what no export of ours has: functions, sparse constants.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[bytes, Tensor] = {}
        self.inputs: dict[bytes, tuple[int | None, ...]] = {}
        self.outputs: list[bytes] = []
        self.odd: list[str] = []


def read_model(data: Bytes) -> Model:
    """Read an ONNX file.

    Raises:
        ValueError, LookupError: it is damaged.
    """
    model = Model()
    keys: set[bytes] = set()
    for number, _, first, end in fields(data, 0, len(data)):
        if number == 7:
            _read_graph(model, data, first, end)
        elif number == 14:  # libraries differ in which of two they take
            parts = fields(data, first, end)
            key = next((bytes(data[a:b]) for name, _, a, b in parts if name == 1), b"")
            if key in keys:
                model.odd.append("metadata of one name twice")
            keys.add(key)
        elif number == 25:
            model.odd.append("a function")
    return model


def _read_graph(model: Model, data: Bytes, first: int, end: int) -> None:
    for number, _, start, stop in fields(data, first, end):
        if number == 1:
            model.nodes.append(Node(bytes(data[start:stop])))
        elif number == 5:
            name, tensor = read_tensor(data, start, stop)
            model.constants[name] = tensor
        elif number == 11:
            name, shape = _read_value(bytes(data[start:stop]))
            model.inputs[name] = shape
        elif number == 12:
            model.outputs.append(_read_value(bytes(data[start:stop]))[0])
        elif number == 15:
            model.odd.append("a sparse constant")


def read_tensor(data: Bytes, first: int, end: int) -> tuple[bytes, Tensor]:
    """Name and content of a TensorProto; ValueError where it has less than its shape says."""
    dims: list[int] = []
    kind, name, apart = 0, b"", b""
    parts: list[tuple[int, int, int]] = []
    for number, _, start, stop in fields(data, first, end):
        if number == 1:
            dims += int64s(data, start, stop)
        elif number == 2:
            kind, _ = varint(data, start)
        elif number == 8:
            name = bytes(data[start:stop])
        elif number == 13:
            apart = _location(bytes(data[start:stop])) or apart
        elif number in (4, 5, 7, 9, 10):
            parts.append((number, start, stop))
    count = math.prod(dims)
    if min(dims, default=0) < 0 or (count > 8 * (end - first) and not apart):
        raise ValueError("a constant that has fewer values than its shape says")
    values = None
    if count <= MOST_VALUES and not apart:
        values = _values(data, kind, parts)
        values = values.reshape(dims) if values is not None and values.size == count else None
    return name, Tensor(tuple(dims), values, apart)


def _values(data: Bytes, kind: int, parts: list[tuple[int, int, int]]) -> NDArray[Any] | None:
    if kind not in _TYPES:
        return None
    found: list[NDArray[Any]] = []
    for number, start, stop in parts:
        if number in (5, 7):
            found.append(np.array(int64s(data, start, stop), np.int64))
        else:
            form = np.dtype(_TYPES[kind] if number == 9 else _VALUES[number])
            if (stop - start) % form.itemsize:
                return None
            found.append(np.frombuffer(bytes(data[start:stop]), form))
    return np.concatenate(found) if found else np.empty(0)


def _location(entry: bytes) -> bytes:
    """The value of an entry of `external_data` that names the file."""
    parts = {number: entry[a:b] for number, _, a, b in fields(entry, 0, len(entry))}
    return parts.get(2, b"") if parts.get(1) == b"location" else b""


def _read_value(data: bytes) -> tuple[bytes, tuple[int | None, ...]]:
    """Name and shape of an input or output."""
    name, shape = b"", []
    for number, _, first, end in fields(data, 0, len(data)):
        if number == 1:
            name = data[first:end]
        elif number == 2:
            shape += _shape_of_type(data[first:end])
    return name, tuple(shape)


def _shape_of_type(data: bytes) -> list[int | None]:
    """TypeProto { tensor_type = 1 { shape = 2 { dim = 1 { dim_value = 1 } } } }."""
    found: list[int | None] = []
    for depth_1, _, a, b in fields(data, 0, len(data)):
        for depth_2, _, c, d in fields(data, a, b) if depth_1 == 1 else ():
            for depth_3, _, e, f in fields(data, c, d) if depth_2 == 2 else ():
                if depth_3 == 1:
                    sizes = [varint(data, h)[0] for n, _, h, _ in fields(data, e, f) if n == 1]
                    found.append(sizes[-1] if sizes else None)
    return found
