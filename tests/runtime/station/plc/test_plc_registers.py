"""The map has room for every signal, and registers hold what was put into them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.runtime.station.plc.registers import (
    WordOrder,
    command_registers,
    command_values,
    station_registers,
    station_values,
)
from generalad.runtime.station.plc.signals import (
    COMMAND_WORD,
    COMMANDS,
    FROM_PLC,
    RESULT_END,
    SIZES,
    STATION,
    STATUS_WORD,
    TO_PLC,
    VALID,
    Signal,
    Value,
)

ORDERS: tuple[WordOrder, ...] = ("big", "little")


@pytest.mark.parametrize(("signals", "block"), [(TO_PLC, STATION), (FROM_PLC, COMMANDS)])
def test_no_two_signals_share_a_place(signals: tuple[Signal, ...], block: range) -> None:
    places = [
        (signal.register + word, bit)
        for signal in signals
        if signal.register is not None
        for word in range(SIZES[signal.kind])
        for bit in (range(16) if signal.bit is None else (signal.bit,))
    ]
    assert len(places) == len(set(places))
    assert all(register in block for register, _ in places)


def test_a_block_fits_into_one_request() -> None:
    assert len(STATION) <= 123 and len(COMMANDS) <= 123  # Modbus, function 16
    assert 2 * len(STATION) <= 240 - 35  # S7, the smallest PDU


def test_the_bits_are_the_last_word_and_32_bits_begin_at_even_ones() -> None:
    assert STATION[-1] == STATUS_WORD and COMMANDS[-1] == COMMAND_WORD
    for signal in (*TO_PLC, *FROM_PLC):
        assert (signal.register in (STATUS_WORD, COMMAND_WORD)) == (signal.bit is not None)
        if SIZES[signal.kind] == 2:
            assert signal.register is not None and signal.register % 2 == 0


def test_names_are_unique() -> None:
    names = [signal.name for signal in (*TO_PLC, *FROM_PLC)]
    assert len(names) == len(set(names))


def test_the_result_ends_where_it_is_said_to() -> None:
    registers = {signal.name: signal.register for signal in TO_PLC}
    assert registers["ResultIdEnd"] == RESULT_END - 2
    assert station_registers({"ResultValid": True}, "big")[STATUS_WORD] == VALID


@pytest.mark.parametrize("order", ORDERS)
def test_every_signal_comes_back(order: WordOrder) -> None:
    values: dict[str, Value] = {
        "ResultId": 0x12345678,
        "Outcome": 3,
        "Score": 0.75,
        "ResultPart": "part 7",
        "Recipe": "x" * 32,
        "Ready": True,
        "StartedAnew": True,
    }
    found = station_values(station_registers(values, order), order)
    assert {name: found[name] for name in values} == values
    asked: dict[str, Value] = {"Trigger": True, "TriggerPart": "A-1", "RequestedRecipe": "nut"}
    known = command_values(command_registers(asked, order), order)
    assert {name: known[name] for name in asked} == asked
    assert known["ResultAcknowledged"] is False


def test_words_are_as_documented() -> None:
    words = station_registers({"ResultId": 0x00010002, "Score": 0.5, "ResultPart": "AB"}, "big")
    assert words[0:2] == [1, 2]
    assert words[6:8] == list(struct.unpack(">2H", struct.pack(">f", 0.5)))
    assert words[10] == ord("A") << 8 | ord("B")
    assert station_registers({"ResultId": 0x00010002}, "little")[0:2] == [2, 1]


def test_what_does_not_fit_is_cut_or_replaced() -> None:
    long = "Tür " + "x" * 40
    values: dict[str, Value] = {"Waiting": 70000, "ResultPart": long, "Parts": 2**32 + 5}
    found = station_values(station_registers(values, "big"), "big")
    assert found["ResultPart"] == "T?r " + "x" * 28
    assert (found["Waiting"], found["Parts"]) == (70000 & 0xFFFF, 5)


@given(words=st.lists(st.integers(0, 0xFFFF), min_size=len(COMMANDS), max_size=len(COMMANDS)))
def test_any_words_are_commands_with_texts_that_can_be_shown(words: list[int]) -> None:
    found = command_values(words, "big")
    assert str(found["TriggerPart"]).isprintable() and str(found["RequestedRecipe"]).isprintable()
