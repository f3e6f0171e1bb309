"""`Listener`: the library's Modbus TCP server, with limits on what strangers may do to it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler

MOST_CONNECTIONS = 16
_TURNS = 5
"""Of the event loop, in which a connection is accepted or closed."""

_HEADER = 6
_MOST_BYTES = 254
"""Of a frame behind its header."""


class _Connection(ServerRequestHandler):  # type: ignore[misc]
    """One PLC. What is no Modbus ends it: the PLC connects again and is understood at once."""

    def callback_connected(self) -> None:
        super().callback_connected()
        transport: Any = self.transport
        opened = transport.get_extra_info("socket")
        # A PLC that lost its power says no goodbye.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.heard = self.loop.time()
        others = [other for other in self.server.active_connections.values() if other.transport]
        if len(others) > MOST_CONNECTIONS:
            min(others, key=lambda other: other.heard).close()

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        if len(self.recv_buffer) + len(data) > self.max_buffer_size:  # would be thrown away
            self.close()
            return
        super().data_received(data)

    def callback_data(self, data: bytes, addr: tuple[Any, ...] | None = None) -> int:
        if len(data) >= _HEADER:
            protocol = int.from_bytes(data[2:4], "big")
            length = int.from_bytes(data[4:6], "big")
            if protocol or not 2 <= length <= _MOST_BYTES:
                self.close()
                return len(data)
        used: int = super().callback_data(data, addr)
        return used


class Listener(ModbusTcpServer):  # type: ignore[misc]
    """Serves one device; of too many connections the one that was silent for the longest goes."""

    def __init__(self, device: Any, address: tuple[str, int]) -> None:
        """`address` is host and port; needs a running event loop."""
        super().__init__(device, address=address)

    async def end(self) -> None:
        """Free everything, connections that are just being accepted too."""
        listening: Any = self.transport
        listening.close()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        await self.shutdown()
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def callback_new_connection(self) -> ServerRequestHandler:
        """One more connection."""
        return _Connection(self, self.trace_packet, self.trace_pdu, self.trace_connect)
