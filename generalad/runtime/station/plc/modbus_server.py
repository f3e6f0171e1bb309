"""`ModbusServer`: the registers as a Modbus TCP server, for PLCs that ask.

An answer is made from one moment's signals, and a request to write is looked at as a whole, so
nothing is ever seen half. One request at a time on a connection; several connections may be open.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from generalad.errors import UsageError
from generalad.runtime.delivery.transport import network_reason
from generalad.runtime.station.plc.handshake import Handshake
from generalad.runtime.station.plc.interface import PlcStatus, Requests
from generalad.runtime.station.plc.library import bind_once, in_address, need
from generalad.runtime.station.plc.registers import (
    WordOrder,
    command_values,
    station_registers,
)
from generalad.runtime.station.plc.signals import COMMANDS, STATION
from generalad.runtime.station.verdict import StationState, Verdict

if TYPE_CHECKING:
    from pymodbus.constants import ExcCodes

SILENCE_SECONDS = 5.0
"""A PLC that has asked nothing for so long is gone."""

_START_SECONDS = 10.0
_READ, _WRITE = (3, 4), (6, 16, 22)
_READ_WRITE = 23


class ModbusServer:
    """See `Plc`."""

    def __init__(
        self,
        host: str,
        port: int,
        handshake: Handshake,
        *,
        address: int = 0,
        unit: int = 0,
        order: WordOrder = "big",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened before `start`.

        Args:
            host: address to listen on.
            port: 0 is any free one, see `port`.
            handshake: of this server alone.
            address: of the first register, from 0.
            unit: unit identifier that is answered; 0 is any.
            order: of the words of 32-bit values.
            clock: monotonic seconds.

        Raises:
            MissingExtraError: pymodbus is not installed.
        """
        need("Modbus", "modbus", "pymodbus")
        self.port = port
        self._host = host
        self._handshake = handshake
        self._address, self._unit = address, unit
        self._order: WordOrder = order
        self._clock = clock
        self._asked_at: float | None = None
        self._failure: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gad-modbus", daemon=True)

    def start(self, requests: Requests) -> None:
        """See `Plc`."""
        self._handshake.start(requests)
        self._thread.start()
        self._listening.wait(_START_SECONDS)
        if self._failure is not None:
            raise UsageError(
                f"cannot listen on {self._host}:{self.port}: {self._failure}",
                remedy="name another address, or end what holds this one",
            )

    def publish(self, state: StationState) -> None:
        """See `Plc`."""
        self._handshake.publish(state)

    def deliver(self, verdict: Verdict) -> None:
        """See `Plc`."""
        self._handshake.deliver(verdict)

    @property
    def status(self) -> PlcStatus:
        """See `Plc`."""
        asked = self._asked_at
        connected = asked is not None and self._clock() - asked < SILENCE_SECONDS
        reason = "connected" if connected else "no PLC asks"
        return self._handshake.status(
            f"modbus server {in_address(self._host)}:{self.port}",
            connected=connected,
            reason=reason,
        )

    def close(self) -> None:
        """See `Plc`."""
        self._handshake.close()
        if self._loop is not None and self._end is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._end.set)
        if self._thread.is_alive():
            self._thread.join(2.0)

    # The thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except (OSError, RuntimeError, OverflowError) as error:
            self._failure = network_reason(error)
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        from generalad.runtime.station.plc.modbus_listener import Listener

        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self.port = bind_once(self._host, self.port)
        server = Listener(self._device(), (self._host, self.port))
        await server.serve_forever(background=True)
        self._listening.set()
        try:
            await self._end.wait()
        finally:
            await server.end()

    def _device(self) -> Any:
        from pymodbus.simulator import DataType, SimData, SimDevice

        registers = SimData(
            self._address, count=COMMANDS.stop, values=0, datatype=DataType.REGISTERS
        )
        return SimDevice(self._unit, simdata=[registers], action=self._answer)

    async def _answer(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called by the library before it reads or writes `registers`."""
        from pymodbus.constants import ExcCodes

        self._asked_at = self._clock()
        at = address - start
        if values is None:
            if function not in (*_READ, *_WRITE, _READ_WRITE):
                return ExcCodes.ILLEGAL_FUNCTION
            signals = self._handshake.signals()
            registers[: len(STATION)] = station_registers(signals, self._order)
            return None
        if function not in (*_WRITE, _READ_WRITE):
            return ExcCodes.ILLEGAL_FUNCTION
        if at < COMMANDS.start or at + len(values) > COMMANDS.stop:
            return ExcCodes.ILLEGAL_ADDRESS
        words = registers[COMMANDS.start : COMMANDS.stop]
        words[at - COMMANDS.start : at - COMMANDS.start + len(values)] = map(int, values)
        self._handshake.look(command_values(words, self._order))
        return None
