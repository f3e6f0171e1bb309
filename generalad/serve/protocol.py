"""`Protocol`: HTTP connections that end when the client is slow, so that it holds up nobody else.

uvicorn itself waits for ever for the rest of a request's head, for the rest of a body after an
early answer, and for a client to take its answer. It reads what comes after an early answer as
carefully as a body that somebody waits for, and chunks of a byte each keep it from all others.
It takes a request that gives a length and chunks.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_SMALLEST_CHUNK = 48
"""Bytes of a chunk with its length and ends, on average, below which a body is a flood."""

_AT_ONCE = struct.pack("ii", 1, 0)
"""Of the option SO_LINGER: the connection is reset when it is closed."""


class _Requests(h11.Connection):
    """What h11 reads of a client, without heads that a proxy before us may read differently.

    h11 goes by the chunks where a head gives a length too. Who goes by the length sees the end of
    this request elsewhere, and takes for a body what we take for the next request (RFC 9112, 6.3).
    HTTP/1.0 knows no chunks (6.1), and other versions are not ours.
    """

    def next_event(self) -> Any:
        """Of the request.

        Raises:
            h11.RemoteProtocolError: It is not plain where the request ends.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}
            lengths = b"content-length" in names or event.http_version < b"1.1"
            if b"transfer-encoding" in names and lengths:
                raise h11.RemoteProtocolError("a length and chunks")
            if event.http_version not in (b"1.0", b"1.1"):
                raise h11.RemoteProtocolError("another version of HTTP")
        return event


class Protocol(H11Protocol):
    """A connection; make a subclass that sets the bounds.

    Attributes:
        seconds: that a client may take for the head of a request, for what it still sends after an
            early answer, and to take an answer.
        most: connections at a time. Beyond, the one that has kept us waiting longest goes.
    """

    seconds: ClassVar[float] = 10.0
    most: ClassVar[int] = 256
    _late: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None
    _let_in = _over = False

    def __init__(self, *args: Any, **options: Any) -> None:
        """As uvicorn makes it."""
        super().__init__(*args, **options)
        self.conn = _Requests(h11.SERVER, self.conn._max_incomplete_event_size)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        if len(self.connections) >= self.most:
            waiting = [other for other in self.connections if other._waits_for_client()]  # type: ignore[union-attr]
            if not waiting:
                transport.abort()
                return
            min(waiting, key=lambda other: other._since)._end()  # type: ignore[union-attr]
        self._let_in = True
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        if self._let_in:
            self._unwatch()
            self.resume_writing()
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        if not self._let_in or self._over:
            return
        if self._is_flood(data):
            self._end()
            return
        super().data_received(data)
        if not self._waits_for_client():
            self._unwatch()
        elif self._late is None:
            self._watch()

    def on_response_complete(self) -> None:
        """A request is answered, as far as we are concerned."""
        super().on_response_complete()
        self._unwatch()
        self._watch()
        if self.conn.their_state is h11.SEND_BODY and not self._over:
            # An early answer: what is still sent is dropped, until the client has seen the end.
            self._over = True
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:  # TLS
                self.transport.close()

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(self.seconds, self._end)

    def resume_writing(self) -> None:
        """It has."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _is_flood(self, data: bytes) -> bool:
        """Whether this is of a body in chunks of hardly anything, which take long to read."""
        place = 0
        if self.conn.their_state is h11.IDLE:  # a head comes, and what follows it
            place = data.find(b"\r\n\r\n") + 4
            chunked = b"content-length" not in data[:place].lower()
        else:
            chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        ends = data.count(b"\r\n", place) if chunked else 0
        return ends > 64 and len(data) - place < ends * _SMALLEST_CHUNK // 2

    def _watch(self) -> None:
        self._since = self.loop.time()
        self._late = self.loop.call_later(self.seconds, self._hang_up)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _waits_for_client(self) -> bool:
        """Whether the next step is the client's: all but the work on a request."""
        return self.cycle is None or self.cycle.response_complete

    def _hang_up(self) -> None:
        self._late = None
        if self._waits_for_client():
            self.transport.abort()

    def _end(self) -> None:
        """Hang up; what the system holds for the client is dropped too."""
        connection = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()


def bounded(seconds: float, most: int) -> type[Any]:
    """A `Protocol` with bounds, for uvicorn."""
    return type("BoundedProtocol", (Protocol,), {"seconds": seconds, "most": most})
