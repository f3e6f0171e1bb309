"""The map is printed from the table of signals, and the documentation holds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from generalad.runtime.station.plc.map_text import map_text
from generalad.runtime.station.plc.open_plcs import ModbusServerTable, OpcUaTable, S7Table
from generalad.runtime.station.plc.signals import FROM_PLC, TO_PLC

PAGE = Path(__file__).parents[4] / "docs" / "plc.md"


def test_the_documentation_has_the_map() -> None:
    if not PAGE.exists():
        pytest.skip("runs from a checkout only")
    assert map_text((), "markdown") in PAGE.read_text(encoding="utf-8")


def test_every_signal_is_in_every_form() -> None:
    names = [signal.name for signal in (*TO_PLC, *FROM_PLC)]
    (place,) = json.loads(map_text((), "json"))["places"]
    assert [row["signal"] for row in place["signals"]] == names
    for form in ("table", "markdown"):
        text = map_text((), form)
        assert all(name in text for name in names)


def test_addresses_are_those_of_the_tables() -> None:
    tables = (
        ModbusServerTable(register=1000),
        S7Table(address="10.0.0.1", db=7, byte=10),
        OpcUaTable(),
    )
    places = json.loads(map_text(tables, "json"))["places"]
    modbus, s7, opcua = ({row["signal"]: row for row in place["signals"]} for place in places)
    assert (modbus["ResultId"]["register"], modbus["ResultId"]["4x"]) == ("1000", "41001")
    assert modbus["Trigger"]["register"] == "1132.0" and modbus["Trigger"]["S7"] is None
    assert s7["Score"]["S7"] == "DB7.DBD22"
    assert s7["Ready"]["S7"] == "DB7.DBX197.0" and s7["RecipeLoaded"]["S7"] == "DB7.DBX196.0"
    assert opcua["ErrorText"]["OPC UA"] == "ns=2;s=ErrorText"
    shown = map_text(tables[:1], "table")
    assert "127.0.0.1" in shown and "DB1" not in shown and "ns=2" not in shown
