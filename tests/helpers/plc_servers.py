"""PLCs that are asked: a Modbus TCP server and an S7 with a program, and rubbish in their place."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

from plc_helpers import HOST, PATIENCE, PlcProgram

from generalad.runtime.station.plc.registers import (
    WordOrder,
    command_registers,
    station_values,
)
from generalad.runtime.station.plc.signals import COMMANDS, STATION, STATUS_WORD


class ModbusPlc:
    """A PLC with the registers in its memory; scans once before every request to read."""

    def __init__(self, program: PlcProgram, port: int, *, order: WordOrder = "big") -> None:
        self.program, self.port, self.order = program, port, order
        self.refuse = False
        self.registers: list[int] = [0] * COMMANDS.stop
        self._loop: Any = None
        self._end: Any = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> ModbusPlc:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)

    async def _serve(self) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        data = SimData(0, count=COMMANDS.stop, values=0, datatype=DataType.REGISTERS)
        device = SimDevice(1, simdata=[data], action=self._scan)
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = ModbusTcpServer(device, address=(HOST, self.port))
        await server.serve_forever(background=True)
        self._ready.set()
        await self._end.wait()
        server.transport.close()
        for _ in range(5):
            await asyncio.sleep(0)  # who is just being accepted
        await server.shutdown()
        for _ in range(5):
            await asyncio.sleep(0)

    async def _scan(
        self, function: int, start: int, at: int, count: int, registers: list[int], values: Any
    ) -> Any:
        from pymodbus.constants import ExcCodes

        if self.refuse:
            return ExcCodes.DEVICE_BUSY
        if values is None:
            commands = self.program.scan(station_values(registers[: len(STATION)], self.order))
            registers[COMMANDS.start : COMMANDS.stop] = command_registers(commands, self.order)
        self.registers = registers
        return None


class S7Plc:
    """A data block with the registers; scans when it is told to."""

    def __init__(self, program: PlcProgram, port: int, *, db: int = 7, start: int = 10) -> None:
        from snap7.server import Server
        from snap7.type import SrvArea

        self.program, self.port, self._start = program, port, start
        self.data = bytearray(start + 2 * COMMANDS.stop)
        self._server = Server(log=False)
        self._server.register_area(SrvArea.DB, db, self.data)

    def __enter__(self) -> S7Plc:
        self._server.start_to(HOST, self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def scan(self) -> None:
        """The program once; the word with the bits is read first, as a write may come between."""
        bits = self._word(STATUS_WORD)
        words = [self._word(register) for register in STATION]
        words[STATUS_WORD] = bits
        asked = command_registers(self.program.scan(station_values(words, "big")), "big")
        at = self._start + 2 * COMMANDS.start
        self.data[at : at + 2 * len(asked)] = b"".join(word.to_bytes(2, "big") for word in asked)

    def _word(self, register: int) -> int:
        at = self._start + 2 * register
        return int.from_bytes(self.data[at : at + 2], "big")


class Rubbish:
    """Accepts connections and answers each request with what `answer` makes of it."""

    def __init__(self, port: int, answer: Callable[[bytes], bytes]) -> None:
        self._server = socket.create_server((HOST, port))
        self._answer = answer
        self.asked = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Rubbish:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(PATIENCE)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, contextlib.suppress(ConnectionError):
                request = client.recv(300)
                while request:
                    self.asked += 1
                    answer = self._answer(request)
                    if not answer:
                        break
                    client.sendall(answer)
                    request = client.recv(300)
