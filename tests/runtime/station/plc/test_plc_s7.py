"""A Siemens S7, played by the library's own server."""

from __future__ import annotations

import pytest
from plc_helpers import HOST, QUICK, READY, FakeStation, PlcProgram, check_taken, until, verdict
from plc_servers import Rubbish, S7Plc
from ports import free_port

from generalad.runtime.delivery.transport import Unavailable
from generalad.runtime.station.plc.handshake import Handshake
from generalad.runtime.station.plc.polled import PolledPlc
from generalad.runtime.station.plc.s7_client import S7Memory

pytest.importorskip("snap7", reason="needs python-snap7")


def test_a_data_block_gets_every_verdict_once_through_a_restart() -> None:
    program, port, station = PlcProgram(), free_port(), FakeStation()
    program.to_trigger = [f"part {id}" for id in range(1, 9)]
    memory = S7Memory(HOST, port, db=7, start=10)
    plc = PolledPlc(memory, Handshake(), poll=0.001, backoff=QUICK)
    plc.start(station)
    plc.publish(READY)
    delivered = 0
    for goal in (4, 8):
        with S7Plc(program, port) as block:

            def scan(block: S7Plc = block, goal: int = goal) -> bool:
                nonlocal delivered
                block.scan()
                while delivered < len(station.parts):
                    delivered += 1
                    plc.deliver(verdict(delivered))
                return len(program.taken) >= goal

            until(scan)
        program.restart()
    plc.close()
    check_taken(program, list(range(1, len(program.taken) + 1)))
    assert all(station.parts[id] == part for part, id in program.answers if id)


def test_a_data_block_that_is_not_there_is_a_reason() -> None:
    port = free_port()
    with S7Plc(PlcProgram(), port, db=7):
        memory = S7Memory(HOST, port, db=8)
        memory.connect()
        with pytest.raises(Unavailable, match="DB8: "):
            memory.read(0, 10)
        memory.close()


def test_what_is_no_s7_is_a_reason() -> None:
    port = free_port()
    with Rubbish(port, lambda request: b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        memory = S7Memory(HOST, port, db=1)
        with pytest.raises(Unavailable):
            memory.connect()
        memory.close()
    with pytest.raises(Unavailable):
        memory.connect()
