"""Signals as 16-bit registers, and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal

from generalad.runtime.station.plc.signals import (
    COMMANDS,
    FROM_PLC,
    LETTERS,
    SIZES,
    STATION,
    TO_PLC,
    Signal,
    Value,
    Values,
)

WordOrder = Literal["big", "little"]
"""Which word of a 32-bit value comes first: the high one (big) or the low one. Within a word the
high byte is first, as Modbus has it."""

_FORMATS = {"uint32": ">I", "float32": ">f"}


def station_registers(values: Values, order: WordOrder) -> list[int]:
    """The block that the station writes; missing values are 0."""
    return _encode(TO_PLC, values, STATION, order)


def command_registers(values: Values, order: WordOrder) -> list[int]:
    """The block that the PLC writes, for those who play one."""
    return _encode(FROM_PLC, values, COMMANDS, order)


def station_values(words: Sequence[int], order: WordOrder) -> dict[str, Value]:
    """What a block of the station says, for those who play a PLC."""
    return _decode(TO_PLC, words, STATION, order)


def command_values(words: Sequence[int], order: WordOrder) -> dict[str, Value]:
    """What a block of the PLC says; any words are a valid block."""
    return _decode(FROM_PLC, words, COMMANDS, order)


def text_fits(text: str) -> bool:
    """Whether a text comes back as it was written; empty ones mean nothing."""
    plain = text.isascii() and text.isprintable()
    return plain and 0 < len(text) <= LETTERS and text == text.strip()


def _encode(signals: Sequence[Signal], values: Values, block: range, order: WordOrder) -> list[int]:
    words = [0] * len(block)
    for signal in signals:
        value = values.get(signal.name)
        if signal.register is None or not value:
            continue
        at = signal.register - block.start
        if signal.bit is not None:
            words[at] |= 1 << signal.bit
        else:
            words[at : at + SIZES[signal.kind]] = _words(signal, value, order)
    return words


def _words(signal: Signal, value: Value, order: WordOrder) -> list[int]:
    if signal.kind == "uint16":
        return [int(value) & 0xFFFF]
    if signal.kind == "text":
        size = SIZES["text"]
        data = str(value).encode("ascii", "replace")[: 2 * size].ljust(2 * size, b"\0")
        return list(struct.unpack(f">{size}H", data))
    number = float(value) if signal.kind == "float32" else int(value) & 0xFFFFFFFF
    high, low = struct.unpack(">2H", struct.pack(_FORMATS[signal.kind], number))
    return [high, low] if order == "big" else [low, high]


def _decode(
    signals: Sequence[Signal], words: Sequence[int], block: range, order: WordOrder
) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for signal in signals:
        if signal.register is None:
            continue
        at = signal.register - block.start
        if signal.bit is not None:
            found[signal.name] = bool(words[at] >> signal.bit & 1)
        else:
            found[signal.name] = _value(signal, words[at : at + SIZES[signal.kind]], order)
    return found


def _value(signal: Signal, words: Sequence[int], order: WordOrder) -> Value:
    if signal.kind == "uint16":
        return words[0]
    data = struct.pack(f">{len(words)}H", *words)
    if signal.kind == "text":
        text = data.split(b"\0", 1)[0].decode("ascii", "replace").rstrip()
        return "".join(letter if letter.isprintable() else "?" for letter in text)
    if order == "little":
        data = data[2:] + data[:2]
    value: int | float = struct.unpack(_FORMATS[signal.kind], data)[0]
    return value
