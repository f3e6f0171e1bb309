"""`HttpTrigger`: POST /trigger begins a part and is answered with its verdict.

    curl -d '{"part": "A-1042"}' http://127.0.0.1:9200/trigger

The body may be empty. 200 has the verdict, 503 says that the station is not ready.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from generalad.errors import UsageError
from generalad.runtime.secrets import Secret
from generalad.runtime.station.verdict import Verdict

MOST_PART = 200
"""Characters of the name of a part."""

_MOST_BODY = 4096
_SECONDS_OF_A_CLIENT = 10.0
_MOST_CLIENTS = 32

Inspect = Callable[[str | None], Verdict | str]
"""Begins a part and waits for its verdict, or says why there is none."""


class HttpTrigger:
    """Serves until `close`."""

    def __init__(self, address: str, *, token: Secret | None = None) -> None:
        """Bind a port, so that one that is taken is known before the run.

        Args:
            address: "9200", which is reached from this machine only, or "0.0.0.0:9200".
            token: that a caller must show, "Authorization: Bearer TOKEN"; None asks for none.

        Raises:
            UsageError: not an address, or the port is taken.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]") or "127.0.0.1"
        if not port.isdigit() or int(port) > 65535:
            raise UsageError(f"trigger: expected PORT or HOST:PORT, found {address!r}")
        try:
            self._server = _Server((host, int(port)), _Handler)
        except OSError as error:
            raise UsageError(
                f"triggers cannot be served at {host}:{port}: {error.strerror}",
                remedy="choose another port",
            ) from error
        self._server.token = token
        self.port = int(self._server.server_address[1])

    def start(self, inspect: Inspect) -> None:
        """Serve in a thread of its own."""
        self._server.inspect = inspect
        threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="gad-http-trigger", daemon=True
        ).start()
        self._serving = True

    _serving = False

    def close(self) -> None:
        """Stop serving."""
        if self._serving:
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    inspect: Inspect
    token: Secret | None

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        super().__init__(address, handler)
        self._places = threading.BoundedSemaphore(_MOST_CLIENTS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, unless there are too many."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; its part is judged all the same."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS_OF_A_CLIENT
    disable_nagle_algorithm = True
    server: _Server
    server_version, sys_version = "gad", ""

    def do_POST(self) -> None:
        """Begin a part."""
        if self.path != "/trigger":
            self._answer(404, {"error": "expected POST /trigger"})
        elif not self._allowed():
            self._answer(401, {"error": "expected Authorization: Bearer TOKEN"})
        else:
            try:
                part = part_of(self._body())
            except ValueError as error:
                self._answer(400, {"error": str(error)})
                return
            found = self.server.inspect(part)
            if isinstance(found, str):
                self._answer(503, {"error": found})
            else:
                self._answer(200, found.to_dict())

    def _allowed(self) -> bool:
        if self.server.token is None:
            return True
        expected = f"Bearer {self.server.token.reveal()}".encode()
        return hmac.compare_digest(self.headers.get("Authorization", "").encode(), expected)

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > _MOST_BODY:
            self.close_connection = True  # what follows is not read
            raise ValueError(f"expected a Content-Length of at most {_MOST_BODY}")
        return self.rfile.read(int(length))

    def _answer(self, code: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        """Questions are no news."""


def part_of(body: bytes) -> str | None:
    """The name of a part in the body of a trigger: nothing, or JSON with the key "part".

    Raises:
        ValueError: it is something else; the text says what was expected.
    """
    if not body.strip():
        return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("expected nothing, or JSON with the key part") from None
    part = content.get("part") if isinstance(content, dict) else content
    if part is None or (isinstance(part, str) and len(part) <= MOST_PART):
        return part
    raise ValueError(f"part: expected a text of at most {MOST_PART} characters")
