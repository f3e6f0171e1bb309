"""`BoundedServer`: HTTP from within a run, for a few clients at a time, each in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from generalad.errors import UsageError


class BoundedServer(ThreadingHTTPServer):
    """Hangs up on clients beyond `most_clients`, so that threads have an end."""

    daemon_threads = True
    most_clients = 16

    def __init__(
        self, address: str, handler: type[BaseHTTPRequestHandler], *, key: str, what: str
    ) -> None:
        """Bind a port, so that one that is taken is known before the run.

        Args:
            address: "9108", which is reached from this machine only, or "0.0.0.0:9108".
            handler: answers a client.
            key: what the address is called where it is written.
            what: is served, in words.

        Raises:
            UsageError: not an address, or the port is taken.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]") or "127.0.0.1"
        if not port.isdecimal() or int(port) > 65535:
            raise UsageError(f"{key}: expected PORT or HOST:PORT, found {address!r}")
        self._places = threading.BoundedSemaphore(self.most_clients)
        try:
            super().__init__((host, int(port)), handler)
        except OSError as error:
            raise UsageError(
                f"{what} cannot be served at {host}:{port}: {error.strerror}",
                remedy="choose another port",
            ) from error

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, unless there are too many."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()


class QuietHandler(BaseHTTPRequestHandler):
    """Answers whole, and logs nothing."""

    server_version, sys_version = "gad", ""

    def answer(self, code: int, kind: str, body: bytes) -> None:
        """Send a body of a content type."""
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        """Questions are no news."""


def hang_up(connection: socket.socket) -> None:
    """End a connection whose client keeps a thread waiting."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
