"""Gives FFmpeg an RTSP camera without its password: a relay on this machine that logs in for it.

FFmpeg takes a password along wherever a camera redirects it to, whichever request is answered so.
Here it only knows an address of this machine. What it asks is passed on over one connection, to the
host that the password was given for, with the password where the camera wants one; an answer that
leads elsewhere ends the connection.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from generalad.runtime.cameras.camera import CameraLost
from generalad.runtime.cameras.redirects import (
    Answer,
    Place,
    authorization_for,
    connected,
    place_of,
    target_of,
)
from generalad.runtime.secrets import split_user

_LONGEST = 1 << 20  # bytes of a message's head or body
_FIRST = re.compile(rb"(\S+) +(\S+) +(RTSP/\S+)")
_FRAME = b"$"  # begins a packet between the messages


class RtspRelay:
    """One connection to a camera; `url` is what FFmpeg is to open, once.

    Attributes:
        url: without user and password.
        why: why the relay ended the connection, or None.
    """

    def __init__(self, address: str, *, timeout: float) -> None:
        """`address` with its secrets; `timeout` in seconds, until both sides are connected."""
        self._address = address
        self._bare, self._user, self._password = split_user(address)
        self._until = time.monotonic() + timeout
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Others on this machine do not know the path, so that nobody else gets the camera.
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/{secrets.token_hex(16)}"
        self.why: str | None = None
        self._sockets: list[socket.socket] = [self._listener]
        self._asked: dict[bytes, tuple[bytes, bytes, list[bytes], bytes]] = {}
        self._challenge: Answer | None = None
        self._lock = threading.Lock()
        self._start(self._accept)

    def close(self) -> None:
        """End both connections."""
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _start(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except CameraLost as error:
                self.why = str(error)
            except (OSError, ValueError, LookupError):
                pass  # FFmpeg says that the connection was lost
            finally:
                self.close()

        threading.Thread(target=guarded, name="gad-rtsp-relay", daemon=True).start()

    def _accept(self) -> None:
        self._listener.settimeout(max(0.1, self._until - time.monotonic()))
        player, _ = self._listener.accept()
        self._listener.close()
        parts = urlsplit(self._bare)
        place: Place = place_of(parts.scheme, parts.hostname, parts.port)
        camera = connected(place, self._until)
        for one in (player, camera):
            one.settimeout(None)
            self._sockets.append(one)
        self._player, self._camera = player, camera
        self._start(self._answers)
        stream = _Messages(player)
        while (message := stream.next()) is not None:
            if message.packet:
                self._send(message.data)
            else:
                self._ask(message)

    def _ask(self, message: _Message) -> None:
        """Pass a request of FFmpeg on, to the true address."""
        found = _FIRST.match(message.lines[0])
        if found is None:
            raise ValueError("no request")
        method, url = found[1], found[2].decode("latin-1")
        if not self._asked and not url.startswith(self.url):
            raise ValueError("somebody else")
        if url.startswith(self.url):
            url = self._bare + url[len(self.url) :]
        lines = [b"%s %s RTSP/1.0" % (method, url.encode("latin-1")), *message.lines[1:]]
        self._asked[message.number] = (method, url.encode("latin-1"), lines, message.body)
        if len(self._asked) > 64:
            self._asked.pop(next(iter(self._asked)))
        self._pass_on(message.number)

    def _pass_on(self, number: bytes) -> None:
        method, url, lines, body = self._asked[number]
        if self._challenge is not None:
            text = authorization_for(
                self._challenge,
                method.decode("latin-1"),
                url.decode("latin-1"),
                self._user,
                self._password,
            )
            given = f"Authorization: {text}".encode("latin-1", "replace")
            lines = [*lines, given] if text else lines
        self._send(b"\r\n".join([*lines, b"", body]))

    def _send(self, data: bytes) -> None:
        with self._lock:
            self._camera.sendall(data)

    def _answers(self) -> None:
        """Pass on what the camera sends; a wish for a password is met here."""
        stream = _Messages(self._camera)
        tried: set[bytes] = set()
        while (message := stream.next()) is not None:
            again = message.number in self._asked and message.number not in tried
            if message.status == 401 and again:
                tried.add(message.number)
                self._challenge = Answer(401, "", message.fields(b"www-authenticate"))
                self._pass_on(message.number)
                continue
            if 300 <= message.status < 400:
                location = (message.fields(b"location") or [""])[0]
                target_of(self._address, location)  # says so where it is another host
                raise CameraLost("the camera redirected after it had answered")
            self._player.sendall(message.data)


class _Message:
    """A request, an answer, or a packet (or several) between them."""

    def __init__(self, data: bytes, head: bytes = b"", body: bytes = b"") -> None:
        self.data, self.body, self.packet = data, body, not head
        self.lines = head.split(b"\r\n")
        number = self.fields(b"cseq")
        self.number = number[0].encode("latin-1") if number else b""
        words = self.lines[0].split(maxsplit=2)
        answer = len(words) > 1 and words[0].startswith(b"RTSP/") and words[1].isdigit()
        self.status = int(words[1][:3]) if answer else 0

    def fields(self, name: bytes) -> list[str]:
        """The values of a header field, `name` in lower case."""
        pairs = (line.partition(b":") for line in self.lines[1:])
        return [
            value.strip().decode("latin-1")
            for key, colon, value in pairs
            if colon and key.strip().lower() == name
        ]


class _Messages:
    """Splits what comes over a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def next(self) -> _Message | None:
        """The next message, or all packets that are there; None at the end."""
        while True:
            if found := self._packets() if self._buffer[:1] == _FRAME else self._message():
                return found
            if len(self._buffer) > 2 * _LONGEST:
                raise ValueError("a message without an end")
            data = self._connection.recv(1 << 16)
            if not data:
                return None
            self._buffer += data

    def _packets(self) -> _Message | None:
        end, size = 0, len(self._buffer)
        while end + 4 <= size and self._buffer[end : end + 1] == _FRAME:
            length = 4 + int.from_bytes(self._buffer[end + 2 : end + 4], "big")
            if end + length > size:
                break
            end += length
        return _Message(self._take(end)) if end else None

    def _message(self) -> _Message | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._buffer[:end])
        sizes = _Message(b"", head or b"\r\n").fields(b"content-length")
        size = int(sizes[0]) if sizes and sizes[0].isdecimal() and len(sizes[0]) < 10 else 0
        if size > _LONGEST:
            raise ValueError("a message that is too long")
        if len(self._buffer) < end + 4 + size:
            return None
        data = self._take(end + 4 + size)
        return _Message(data, head or b"\r\n", data[end + 4 :])

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken
