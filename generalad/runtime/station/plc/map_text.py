"""The map of signals, for PLC programmers: as table, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from generalad.records import to_json
from generalad.runtime.station.plc.open_plcs import Place, PlcTable
from generalad.runtime.station.plc.signals import FROM_PLC, SIZES, TO_PLC, Signal
from generalad.runtime.station.verdict import REASONS

Form = Literal["table", "markdown", "json"]

ALL = (Place("any", register=0, db=1, opcua=True),)
"""Every kind at its default address."""

HOLDING = 40001
"""How many PLCs call the holding register with address 0."""

_SPACE = 2
_TYPES = {"bit": "BOOL", "uint16": "UINT", "uint32": "UDINT", "float32": "REAL"}
_HEADS = ("signal", "by", "type", "register", "4x", "S7", "OPC UA", "meaning")


def map_rows(place: Place) -> list[dict[str, Any]]:
    """The map at one place: a row a signal, with keys as in `map_text`; None is not there."""
    return [
        _row(signal, by, place)
        for by, signals in (("station", TO_PLC), ("PLC", FROM_PLC))
        for signal in signals
    ]


def map_text(tables: Sequence[PlcTable], form: Form) -> str:
    """The map as text.

    Args:
        tables: PLCs whose addresses are shown; none shows every kind at its default address.
        form: "table" for a terminal, "markdown", or "json": a list of places, each with `where` and
            `signals`, whose keys are signal, by, type, register (from 0), 4x (the same from
            40001), S7, OPC UA and meaning.
    """
    places = [table.place() for table in tables] or list(ALL)
    if form == "json":
        found = [{"where": place.where, "signals": map_rows(place)} for place in places]
        codes = {str(code): reason for code, reason in enumerate(REASONS, start=1)}
        return to_json({"reasons": codes, "places": found}, indent=2)
    parts = []
    for place in places:
        rows = [[_cell(row[head]) for head in _HEADS] for row in map_rows(place)]
        shown = [
            column
            for column, head in enumerate(_HEADS)
            if head in ("signal", "by", "type", "meaning") or any(row[column] for row in rows)
        ]
        table = [[row[column] for column in shown] for row in [list(_HEADS), *rows]]
        title = [] if place in ALL else [place.where]
        parts.append("\n".join([*title, *(_markdown if form == "markdown" else _plain)(table)]))
    return "\n\n".join([*parts, reasons_text()])


def reasons_text() -> str:
    """The codes of `Reason`."""
    codes = ", ".join(f"{code} {reason}" for code, reason in enumerate(REASONS, start=1))
    return f"Reason: 0 none, {codes}"


def _row(signal: Signal, by: str, place: Place) -> dict[str, Any]:
    register = None
    if signal.register is not None and place.register is not None:
        register = place.register + signal.register
    return {
        "signal": signal.name,
        "by": by,
        "type": _type(signal),
        "register": _with_bit(register, signal),
        "4x": _with_bit(None if register is None else HOLDING + register, signal),
        "S7": _s7(signal, place),
        "OPC UA": f"ns={_SPACE};s={signal.name}" if place.opcua else None,
        "meaning": signal.meaning,
    }


def _type(signal: Signal) -> str:
    if signal.kind == "text":
        return "STRING" if signal.register is None else f"CHAR[{2 * SIZES['text']}]"
    return _TYPES[signal.kind]


def _with_bit(register: int | None, signal: Signal) -> str | None:
    if register is None:
        return None
    return str(register) if signal.bit is None else f"{register}.{signal.bit}"


def _s7(signal: Signal, place: Place) -> str | None:
    """Bits 0 to 7 of a word are in its second byte."""
    if place.db is None or signal.register is None:
        return None
    byte = place.byte + 2 * signal.register
    if signal.bit is not None:
        return f"DB{place.db}.DBX{byte + (signal.bit < 8)}.{signal.bit % 8}"
    size = {1: "W", 2: "D"}.get(SIZES[signal.kind], "B")
    return f"DB{place.db}.DB{size}{byte}"


def _cell(value: str | None) -> str:
    return value or ""


def _plain(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _markdown(table: Sequence[Sequence[str]]) -> list[str]:
    head, *rows = table
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
