"""`RtspProxy`: between a reader and an RTSP server over TCP, and does harm to what passes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

Tamper = Callable[[int, bytes], bytes | None]
"""Given the number of a media packet since the connection began, and the packet (12 bytes of RTP
header, then data): what passes instead; None loses it."""


class RtspProxy:
    """Listens on `port`, until it is closed."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.tamper: Tamper = lambda _, packet: packet
        self.answer: Callable[[bytes], bytes] = lambda answer: answer  # must keep the length
        self.trickle = 0.0  # seconds a byte; 0 sends everything at once
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for connection in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for pump, args in ((self._up, (near, far)), (self._down, (far, near))):
                    threading.Thread(target=pump, args=args, daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError), far.makefile("rb") as stream:
            number = 0
            while start := stream.read(1):
                if start != b"$":  # an answer; answers with content are longer
                    self._send(near, self.answer(start + _answer(stream.readline, stream.read)))
                    continue
                head = stream.read(3)
                packet: bytes | None = stream.read(int.from_bytes(head[1:], "big"))
                if head[0] % 2 == 0 and packet is not None:
                    packet = self.tamper(number, packet)
                    number += 1
                if packet is not None:
                    size = len(packet).to_bytes(2, "big")
                    self._send(near, b"$" + head[:1] + size + packet)
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)

    def _send(self, near: socket.socket, data: bytes) -> None:
        while data and self.trickle:
            near.sendall(data[:1])
            data = data[1:]
            time.sleep(self.trickle)
        near.sendall(data)


def _answer(line: Callable[[], bytes], read: Callable[[int], bytes]) -> bytes:
    text, size = b"", 0
    while (more := line()).strip():
        text += more
        if more.lower().startswith(b"content-length:"):
            size = int(more.split(b":")[1])
    return text + more + read(size)
