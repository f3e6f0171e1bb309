"""`ModbusMemory`: holding registers of a PLC that is a Modbus TCP server."""

from __future__ import annotations

from typing import Any

from generalad.runtime.delivery.transport import Unavailable
from generalad.runtime.station.plc.library import in_address, need

_EXCEPTIONS = {
    1: "it does not know the function",
    2: "it has no such registers",
    3: "it refuses the values",
    4: "it failed",
    6: "it is busy",
    10: "the gateway has no path to it",
    11: "it does not answer the gateway",
}
"""Of the Modbus Application Protocol, section 7."""


class ModbusMemory:
    """See `Memory`. Reads by function 3, writes by 16."""

    def __init__(
        self, host: str, port: int, *, address: int = 0, unit: int = 1, timeout: float = 1.0
    ) -> None:
        """Nothing is opened before `connect`.

        Args:
            host: of the PLC.
            port: of the PLC.
            address: of the first register, from 0.
            unit: unit identifier, 0 to 255.
            timeout: seconds for one request.

        Raises:
            MissingExtraError: pymodbus is not installed.
        """
        need("Modbus", "modbus", "pymodbus")
        self._host, self._port = host, port
        self._address, self._unit, self._timeout = address, unit, timeout
        self._client: Any = None

    @property
    def name(self) -> str:
        """See `Memory`."""
        return f"modbus://{in_address(self._host)}:{self._port}"

    def connect(self) -> None:
        """See `Memory`."""
        from pymodbus.client import ModbusTcpClient

        self.close()
        # Without retries of its own: a second answer to the first request would answer the second.
        client = ModbusTcpClient(self._host, port=self._port, timeout=self._timeout, retries=0)
        if not client.connect():
            raise Unavailable("cannot connect")
        self._client = client

    def read(self, register: int, count: int) -> list[int]:
        """See `Memory`."""
        answer = self._ask("read_holding_registers", register, count=count, device_id=self._unit)
        words = list(answer.registers)
        if len(words) != count:
            raise Unavailable(f"{len(words)} registers instead of {count}")
        return words

    def write(self, register: int, words: list[int]) -> None:
        """See `Memory`."""
        self._ask("write_registers", register, words, device_id=self._unit)

    def close(self) -> None:
        """See `Memory`."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _ask(self, method: str, register: int, *values: Any, **named: Any) -> Any:
        from pymodbus.exceptions import ModbusException

        if self._client is None:
            raise Unavailable("not connected")
        try:
            answer = getattr(self._client, method)(self._address + register, *values, **named)
        except ModbusException:
            raise Unavailable("no valid answer in time, or the connection was lost") from None
        except (OSError, ValueError, IndexError, KeyError) as error:  # of an answer that is none
            raise Unavailable(f"broken off ({type(error).__name__})") from None
        if answer.isError():
            reason = _EXCEPTIONS.get(answer.exception_code, f"exception {answer.exception_code}")
            raise Unavailable(f"register {self._address + register}: {reason}")
        return answer
