"""The fields of protobuf messages, read and written without its library.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

Bytes = bytes | mmap.mmap
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


def fields(data: Bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message: number, start, start of the content, end.

    Raises:
        ValueError, IndexError: it is damaged or cut off.
    """
    while position < end:
        start = position
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = varint(data, start)
        kind = tag & 7
        if kind == _BYTES:
            length = data[position]
            content = position + 1
            if length >= 0x80:
                length, content = varint(data, position)
            position = content + length
        elif kind == _VARINT:
            content = position
            while data[position] >= 0x80:
                position += 1
            position += 1
        elif kind in (_EIGHT, _FOUR):
            content = position
            position += 8 if kind == _EIGHT else 4
        else:
            raise ValueError(f"wire type {kind}")
        if position > end:
            raise ValueError("a field is cut off")
        yield tag >> 3, start, content, position


def varint(data: Bytes, position: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def int64s(data: Bytes, content: int, end: int) -> list[int]:
    """Numbers with a sign of one occurrence of a repeated field: one, or several packed."""
    found = []
    position = content
    while position < end:
        value, position = varint(data, position)
        value &= (1 << 64) - 1  # the tenth byte of a number holds one bit of it
        found.append(value - (1 << 64) if value >= 1 << 63 else value)
    return found


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return to_varint(number << 3 | _BYTES) + to_varint(len(content)) + content


def to_varint(value: int) -> bytes:
    """A number of 7 bits a byte."""
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
