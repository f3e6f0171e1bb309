"""Modbus TCP in both roles, against the library's own client and server."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from plc_helpers import (
    HOST,
    QUICK,
    READY,
    FakeStation,
    PlcProgram,
    check_taken,
    until,
    verdict,
)
from plc_servers import ModbusPlc, Rubbish
from ports import free_port

from generalad.errors import MissingExtraError, UsageError
from generalad.runtime.station.plc.handshake import Handshake
from generalad.runtime.station.plc.modbus_client import ModbusMemory
from generalad.runtime.station.plc.modbus_server import ModbusServer
from generalad.runtime.station.plc.polled import PolledPlc
from generalad.runtime.station.plc.registers import (
    WordOrder,
    command_registers,
    command_values,
    station_registers,
    station_values,
)
from generalad.runtime.station.plc.signals import COMMANDS, STATION, STATUS_WORD

pytest.importorskip("pymodbus", reason="needs pymodbus")
PARTS = 30


@pytest.fixture
def station() -> FakeStation:
    return FakeStation()


def serve(station: FakeStation, **settings: Any) -> ModbusServer:
    server = ModbusServer(HOST, 0, Handshake(), **settings)
    server.start(station)
    server.publish(READY)
    return server


@pytest.fixture
def server(station: FakeStation) -> Iterator[ModbusServer]:
    served = serve(station)
    yield served
    served.close()


@pytest.fixture
def client(server: ModbusServer) -> Iterator[Any]:
    with connected(server) as opened:
        yield opened


def connected(server: ModbusServer) -> Any:
    from pymodbus.client import ModbusTcpClient

    client = ModbusTcpClient(HOST, port=server.port, retries=0)
    assert client.connect()
    return client


def scan(client: Any, program: PlcProgram, *, base: int = 0, order: WordOrder = "big") -> None:
    answer = client.read_holding_registers(base, count=len(STATION))
    commands = program.scan(station_values(answer.registers, order))
    asked = command_registers(commands, order)
    assert not client.write_registers(base + COMMANDS.start, asked).isError()


# The station as server


@pytest.mark.parametrize(("base", "order"), [(0, "big"), (1000, "little")])
def test_a_plc_that_asks_gets_every_verdict_once(
    station: FakeStation, base: int, order: WordOrder
) -> None:
    server = serve(station, address=base, order=order)
    program = PlcProgram()
    program.to_trigger = [f"part {id}" for id in range(1, PARTS + 1)]
    delivered = 0
    with connected(server) as client:
        while len(program.taken) < PARTS:
            scan(client, program, base=base, order=order)
            while delivered < len(station.parts):
                delivered += 1
                server.deliver(verdict(delivered))
    server.close()
    check_taken(program, list(range(1, PARTS + 1)))
    assert program.answers == [(f"part {id}", id) for id in range(1, PARTS + 1)]
    assert server.status.delivered >= PARTS - 1 and server.status.lost == 0


def test_input_registers_say_the_same(server: ModbusServer, client: Any) -> None:
    server.deliver(verdict(5))
    holding = client.read_holding_registers(0, count=90).registers
    assert client.read_input_registers(0, count=90).registers == holding


def test_one_request_may_write_and_read(
    server: ModbusServer, station: FakeStation, client: Any
) -> None:
    asked = command_registers({"Trigger": False}, "big")
    assert not client.write_registers(COMMANDS.start, asked).isError()
    answer = client.readwrite_registers(
        read_address=0,
        read_count=len(STATION),
        write_address=COMMANDS.stop - 1,
        values=[1],
        device_id=1,
    )
    assert station_values(answer.registers, "big")["TriggerAcknowledged"]
    assert station.parts == {1: None}


@pytest.mark.parametrize("register", [0, STATUS_WORD, COMMANDS.start - 1, COMMANDS.stop])
def test_a_plc_writes_its_commands_only(client: Any, register: int) -> None:
    assert client.write_registers(register, [1]).exception_code == 2


def test_coils_are_refused(client: Any) -> None:
    assert client.read_coils(0, count=8).exception_code == 1
    assert client.write_coil(COMMANDS.start, True).exception_code == 1


def test_another_unit_is_refused(station: FakeStation) -> None:
    server = serve(station, unit=5)
    with connected(server) as client:
        assert client.read_holding_registers(0, count=2, device_id=6).isError()
        assert not client.read_holding_registers(0, count=2, device_id=5).isError()
    server.close()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET / HTTP/1.1\r\nHost: station\r\n\r\n",
        b"\0" * 64,
        b"\xff" * 2000,
        b"\0\1\0\0\0\1\1",  # a frame with nothing in it
        b"\0\1\0\0\xff\xff\1\3\0\0\0\1",  # longer than any frame
    ],
    ids=["http", "zeros", "much", "empty", "long"],
)
def test_rubbish_ends_its_connection_and_no_other(
    server: ModbusServer, client: Any, rubbish: bytes
) -> None:
    with socket.create_connection((HOST, server.port), timeout=30) as stranger:
        stranger.sendall(rubbish)
        assert ended(stranger)
    assert not client.read_holding_registers(0, count=len(STATION)).isError()


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(10) == b""
    except ConnectionResetError:
        return True


def test_half_a_frame_holds_up_nobody(server: ModbusServer, client: Any) -> None:
    with socket.create_connection((HOST, server.port)) as stranger:
        stranger.sendall(b"\0\1\0\0\0\6\1\3\0")
        assert not client.read_holding_registers(0, count=len(STATION)).isError()


def test_a_function_that_does_not_exist_is_answered(server: ModbusServer) -> None:
    with socket.create_connection((HOST, server.port), timeout=30) as stranger:
        stranger.sendall(b"\0\1\0\0\0\2\1\x5a")
        assert stranger.recv(20)[7] & 0x80


def test_of_too_many_connections_the_silent_one_goes(server: ModbusServer, client: Any) -> None:
    strangers = []
    for _ in range(16):
        strangers.append(socket.create_connection((HOST, server.port), timeout=30))
        assert not client.read_holding_registers(0, count=2).isError()
    assert ended(strangers[0])
    for stranger in strangers:
        stranger.close()


def test_a_port_that_is_taken_is_said(station: FakeStation) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on {HOST}:{port}: address already"):
            ModbusServer(HOST, port, Handshake()).start(station)


def test_a_server_of_ipv6(station: FakeStation) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = ModbusServer("::1", 0, Handshake())
    server.start(station)
    memory = ModbusMemory("::1", server.port)
    memory.connect()
    assert len(memory.read(0, len(STATION))) == len(STATION)
    memory.close()
    server.close()


def test_a_plc_that_asks_no_more_is_away(station: FakeStation) -> None:
    now = 100.0
    server = serve(station, clock=lambda: now)
    reasons = [server.status.reason]
    with connected(server) as client:
        client.read_holding_registers(0, count=2)
    reasons.append(server.status.reason)
    now += 6
    reasons.append(server.status.reason)
    assert reasons == ["no PLC asks", "connected", "no PLC asks"]
    server.close()


def test_the_library_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'generalad\[modbus\]'"):
        ModbusMemory(HOST, 502)


# The station as client


class Polling:
    """A station that asks a PLC at a port, and its log."""

    def __init__(self, port: int, **settings: Any) -> None:
        self.station, self.lines = FakeStation(), list[str]()
        memory = ModbusMemory(HOST, port, timeout=settings.pop("timeout", 1.0))
        self.plc = PolledPlc(
            memory,
            Handshake(),
            poll=0.001,
            backoff=QUICK,
            log=self.lines.append,
            **settings,
        )
        self.delivered = 0

    def __enter__(self) -> Polling:
        self.plc.start(self.station)
        self.plc.publish(READY)
        return self

    def __exit__(self, *_: object) -> None:
        self.plc.close()

    def deliver(self, count: int) -> None:
        for _ in range(count):
            self.delivered += 1
            self.plc.deliver(verdict(self.delivered))


@pytest.mark.parametrize("order", ["big", "little"])
def test_a_plc_that_is_asked_gets_every_verdict_once(order: WordOrder) -> None:
    program, port = PlcProgram(), free_port()
    program.to_trigger = [f"part {id}" for id in range(1, PARTS + 1)]
    with ModbusPlc(program, port, order=order), Polling(port, order=order) as polling:

        def acknowledged() -> bool:
            polling.deliver(len(polling.station.parts) - polling.delivered)
            return len(polling.station.acknowledged) == PARTS

        until(acknowledged)
        assert polling.plc.status.connected
    check_taken(program, list(range(1, PARTS + 1)))
    assert program.answers == [(f"part {id}", id) for id in range(1, PARTS + 1)]


def test_a_plc_that_restarts_in_mid_handshake_misses_nothing() -> None:
    program, port = PlcProgram(), free_port()
    with Polling(port) as polling:
        assert not polling.plc.status.connected
        for restart in range(1, 4):
            polling.deliver(5)
            with ModbusPlc(program, port):
                until(lambda: len(program.taken) >= 5 * restart - 2)  # noqa: B023
            program.restart()  # the next one begins with empty registers
            polling.deliver(1)
            with ModbusPlc(program, port):
                until(lambda: len(program.taken) == polling.delivered)
            program.restart()
    check_taken(program, list(range(1, polling.delivered + 1)))
    assert polling.plc.status.reason == "closed"


def test_the_plc_is_told_that_the_station_ends() -> None:
    program, port = PlcProgram(), free_port()
    with ModbusPlc(program, port) as plc:
        with Polling(port):
            until(lambda: station_values(plc.registers[: len(STATION)], "big")["Ready"])
        assert not station_values(plc.registers[: len(STATION)], "big")["Ready"]


def test_what_a_killed_station_left_in_the_plc_is_taken_back() -> None:
    program, port = PlcProgram(), free_port()
    left = station_registers({"ResultId": 900, "ResultIdEnd": 900, "ResultValid": True}, "big")
    with ModbusPlc(program, port) as plc:
        memory = ModbusMemory(HOST, port)
        memory.connect()
        memory.write(0, left)
        memory.close()
        program.last = 900
        with Polling(port) as polling:
            polling.delivered = 900
            polling.deliver(2)
            until(lambda: polling.station.acknowledged == [901, 902])
        assert command_values(plc.registers[COMMANDS.start :], "big")["Trigger"] is False
    check_taken(program, [901, 902])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda request: b"", "the connection was lost"),
        (lambda request: b"HTTP/1.1 400 Bad Request\r\n\r\n", "no valid answer in time"),
        (lambda request: request[:5] + b"\x03\x01\x83\x02", "it has no such registers"),
        (lambda request: request[:5] + b"\x05\x01\x03\x02\x00\x07", "1 registers instead of"),
        (lambda request: b"\xff\xff" + request[2:5] + b"\x05\x01\x03\x02\x00\x07", "in time"),
    ],
    ids=["closed", "http", "exception", "short", "other"],
)
def test_a_plc_that_answers_rubbish_is_a_reason_and_tried_again(answer: Any, reason: str) -> None:
    port = free_port()
    with Polling(port, timeout=0.05) as polling:
        with Rubbish(port, answer) as rubbish:
            until(lambda: rubbish.asked > 1)
            until(lambda: reason in polling.plc.status.reason, polling.plc.status.reason)
        program = PlcProgram()
        polling.deliver(3)
        with ModbusPlc(program, port):
            until(lambda: len(program.taken) == 3)
    check_taken(program, [1, 2, 3])


def test_a_plc_that_is_busy_is_a_reason() -> None:
    program, port = PlcProgram(), free_port()
    with ModbusPlc(program, port) as plc, Polling(port) as polling:
        until(lambda: polling.plc.status.connected)
        plc.refuse = True
        until(lambda: not polling.plc.status.connected)
        # What comes first is chance: the next look, or what stands there after connecting anew.
        asked = [f"register {block.start}: it is busy" for block in (STATION, COMMANDS)]
        assert polling.plc.status.reason in asked
        plc.refuse = False
        until(lambda: polling.plc.status.connected)
    assert polling.lines[0].endswith(": connected") and len(polling.lines) >= 3
