"""`HttpTrigger`: POST /trigger begins a part and is answered with its verdict.

    curl -d '{"part": "A-1042"}' http://127.0.0.1:9200/trigger

The body may be empty. 200 has the verdict, 503 says that the station is not ready.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable
from typing import Any

from generalad.runtime.bounded_server import BoundedServer, QuietHandler, hang_up
from generalad.runtime.hosts import from_another_page, is_loopback, without_port
from generalad.runtime.secrets import Secret
from generalad.runtime.station.verdict import MOST_NAME, Verdict

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
        self._server = _Server(address, _Handler, key="trigger", what="triggers")
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


class _Server(BoundedServer):
    most_clients = _MOST_CLIENTS
    block_on_close = False
    inspect: Inspect
    token: Secret | None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; its part is judged all the same."""


class _Lines:
    """What a client sends; `last` is the line that was read last."""

    last = b""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readline(self, most: int = -1) -> bytes:
        self.last = self._file.readline(most)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS_OF_A_CLIENT
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        """A client has come."""
        super().setup()
        self._lines = _Lines(self.rfile)
        self.rfile = self._lines  # type: ignore[assignment]

    def handle_one_request(self) -> None:
        """Answer; a client that sends it byte by byte is hung up on, or it would keep its place."""
        self._late = threading.Timer(self.timeout, hang_up, [self.connection])
        self._late.daemon = True
        self._late.start()
        try:
            super().handle_one_request()
        finally:
            self._late.cancel()

    def do_POST(self) -> None:
        """Begin a part."""
        if self._lines.last not in (b"\r\n", b"\n"):
            # The client went away within the head, which the library takes for its end.
            self.close_connection = True
            return
        if refusal := self._refusal():
            self.close_connection = True  # what follows is not read, nor taken for a request
            self._answer(*refusal)
            return
        try:
            part = part_of(self._body())
        except ValueError as error:
            self._answer(400, {"error": str(error)})
            return
        self._late.cancel()  # a verdict takes as long as it may
        found = self.server.inspect(part)
        if isinstance(found, str):
            self._answer(503, {"error": found})
        else:
            self._answer(200, found.to_dict())

    def _refusal(self) -> tuple[int, dict[str, Any]] | None:
        if not self._from_a_program():
            return 403, {"error": "expected a program of this machine, found a page"}
        if self.path != "/trigger":
            return 404, {"error": "expected POST /trigger"}
        if not self._allowed():
            return 401, {"error": "expected Authorization: Bearer TOKEN"}
        return None

    def _from_a_program(self) -> bool:
        """Not from a page that a browser on this machine shows, whatever name leads it here."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin", "")
        if from_another_page(host, origin):
            return False
        here = self.server.token is None and is_loopback(str(self.server.server_address[0]))
        return not here or not host or is_loopback(without_port(host))

    def _allowed(self) -> bool:
        if self.server.token is None:
            return True
        expected = f"Bearer {self.server.token.reveal()}".encode()
        return hmac.compare_digest(self.headers.get("Authorization", "").encode(), expected)

    def _body(self) -> bytes:
        lengths = self.headers.get_all("Content-Length", ["0"])
        length = lengths[0] if len(set(lengths)) == 1 else ""
        known = length.isascii() and length.isdecimal() and int(length[:9]) <= _MOST_BODY
        if not known or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # what follows is not read, nor taken for a request
            raise ValueError(f"expected a Content-Length of at most {_MOST_BODY}")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ValueError(f"expected {length} bytes, found {len(body)}")
        return body

    def _answer(self, code: int, content: dict[str, Any]) -> None:
        self.answer(code, "application/json", json.dumps(content).encode())


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
    if part is None or (isinstance(part, str) and len(part) <= MOST_NAME and _is_unicode(part)):
        return part
    raise ValueError(f"part: expected a text of at most {MOST_NAME} characters")


def _is_unicode(text: str) -> bool:
    """JSON may have half of a pair of surrogates, which no file and no PLC takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
