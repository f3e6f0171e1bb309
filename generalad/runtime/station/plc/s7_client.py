"""`S7Memory`: a data block of a Siemens S7, which needs no program for the connection.

The same registers as over Modbus, two bytes each, high byte first. S7-1200 and 1500 must allow
PUT/GET, and the data block must not be optimised.
"""

from __future__ import annotations

import struct
from typing import Any

from generalad.runtime.delivery.transport import Unavailable, network_reason
from generalad.runtime.station.plc.library import in_address, need


class S7Memory:
    """See `Memory`."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        db: int,
        start: int = 0,
        rack: int = 0,
        slot: int = 1,
        timeout: float = 1.0,
    ) -> None:
        """Nothing is opened before `connect`.

        Args:
            host: of the PLC.
            port: of the PLC, usually 102.
            db: number of the data block.
            start: byte of the first register in it.
            rack: of the CPU.
            slot: of the CPU: 1 for S7-1200 and 1500, 2 for S7-300.
            timeout: seconds for one request.

        Raises:
            MissingExtraError: python-snap7 is not installed.
        """
        need("S7", "s7", "snap7")
        self._host, self._port = host, port
        self._db, self._start, self._rack, self._slot = db, start, rack, slot
        self._timeout = timeout
        self._client: Any = None

    @property
    def name(self) -> str:
        """See `Memory`."""
        return f"s7://{in_address(self._host)}:{self._port}/DB{self._db}"

    def connect(self) -> None:
        """See `Memory`."""
        from snap7.client import Client

        self.close()
        self._client = Client()
        self._try(self._client.connect, self._host, self._rack, self._slot, self._port)
        self._client.connection.timeout = self._timeout

    def read(self, register: int, count: int) -> list[int]:
        """See `Memory`."""
        at = self._start + 2 * register
        data = bytes(self._try(self._connected().db_read, self._db, at, 2 * count))
        if len(data) != 2 * count:
            raise Unavailable(f"{len(data)} bytes instead of {2 * count}")
        return list(struct.unpack(f">{count}H", data))

    def write(self, register: int, words: list[int]) -> None:
        """See `Memory`."""
        data = bytearray(struct.pack(f">{len(words)}H", *words))
        self._try(self._connected().db_write, self._db, self._start + 2 * register, data)

    def close(self) -> None:
        """See `Memory`."""
        if self._client is not None:
            client, self._client = self._client, None
            try:
                client.disconnect()
            except Exception:  # of a connection that is gone
                return

    def _connected(self) -> Any:
        if self._client is None:
            raise Unavailable("not connected")
        return self._client

    def _try(self, ask: Any, *values: Any) -> Any:
        try:
            return ask(*values)
        except OSError as error:
            raise Unavailable(network_reason(error)) from None
        except Exception as error:  # the library has many, with codes in place of words
            text = " ".join(str(error).split())[:100] or type(error).__name__
            raise Unavailable(f"DB{self._db}: {text}") from None
