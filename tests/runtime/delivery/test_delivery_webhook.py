"""Deliveries to a real small web server that fails, redirects, stalls and is encrypted."""

from __future__ import annotations

import email.utils
import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from delivery_helpers import HOST, QUICK, certificates, message, until
from ports import free_port

from generalad.errors import UsageError
from generalad.runtime.backends.fake import fake_spec
from generalad.runtime.delivery.message import Message
from generalad.runtime.delivery.sink import NetworkSink, open_transport
from generalad.runtime.delivery.transport import Refused, Unavailable
from generalad.runtime.delivery.webhook import LONGEST_RETRY_AFTER, WebhookTransport
from generalad.runtime.notification import Notification
from generalad.runtime.secrets import Secret


class Server(http.server.ThreadingHTTPServer):
    """Answers with the statuses of `plan`, then with 204; keeps what it was sent."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__((HOST, port), Handler)
        self.plan: list[int | tuple[int, dict[str, str]]] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.trickle = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def run(self) -> Server:
        self.thread.start()
        return self

    def stop(self) -> None:
        self.trickle.clear()
        self.shutdown()
        self.thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that are broken off are part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers.items()), json.loads(body)))
        while self.server.trickle.is_set():
            self.wfile.write(b"H")
            self.wfile.flush()
            time.sleep(0.02)
        status = self.server.plan.pop(0) if self.server.plan else 204
        code, headers = status if isinstance(status, tuple) else (status, {})
        if code == 0:
            return  # breaks off without an answer
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server().run()
    yield server
    server.stop()


def webhook(server: Server, path: str = "/hook?line=1", **settings: Any) -> WebhookTransport:
    return WebhookTransport(Secret(f"http://{HOST}:{server.server_port}{path}"), **settings)


def json_message(number: int) -> Message:
    return Message(f"m{number}", "event", "line/event", b'{"number": %d}' % number)


def test_one_post_a_message(server: Server) -> None:
    transport = webhook(server, token=Secret("tok-en"))
    transport.connect("gadtest", 5)
    transport.deliver(json_message(7), 5)
    ((path, headers, content),) = server.requests
    assert path == "/hook?line=1" and content == {"number": 7}
    assert headers["Idempotency-Key"] == "m7" and headers["Authorization"] == "Bearer tok-en"
    assert headers["Content-Type"] == "application/json"


def test_user_in_the_address(server: Server) -> None:
    address = f"http://ann:p%40ss@{HOST}:{server.server_port}/"
    WebhookTransport(Secret(address)).deliver(json_message(1), 5)
    assert server.requests[0][1]["Authorization"] == "Basic YW5uOnBAc3M="


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success(server: Server, status: int) -> None:
    server.plan = [status]
    webhook(server).deliver(json_message(1), 5)


@pytest.mark.parametrize("status", [401, 403, 404, 408, 425, 429, 500, 502, 503, 504, 599])
def test_worth_another_attempt(server: Server, status: int) -> None:
    server.plan = [(status, {"Retry-After": "7"})]
    with pytest.raises(Unavailable, match=f"HTTP {status}") as caught:
        webhook(server).deliver(json_message(1), 5)
    assert caught.value.retry_after == 7


@pytest.mark.parametrize("status", [400, 406, 410, 413, 415, 422])
def test_can_never_be_delivered(server: Server, status: int) -> None:
    server.plan = [status]
    with pytest.raises(Refused, match=f"HTTP {status}"):
        webhook(server).deliver(json_message(1), 5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("12", 12), ("999999", LONGEST_RETRY_AFTER), ("-5", 0), ("nan", 0), ("soon", 0), ("", 0)],
)
def test_retry_after_within_limits(server: Server, value: str, expected: float) -> None:
    server.plan = [(503, {"Retry-After": value})]
    with pytest.raises(Unavailable) as caught:
        webhook(server).deliver(json_message(1), 5)
    assert caught.value.retry_after == expected


def test_retry_after_a_date(server: Server) -> None:
    date = email.utils.formatdate(time.time() + 200, usegmt=True)
    server.plan = [(429, {"Retry-After": date})]
    with pytest.raises(Unavailable) as caught:
        webhook(server).deliver(json_message(1), 5)
    assert 0 < caught.value.retry_after <= 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: Server, status: int) -> None:
    other = Server().run()
    try:
        location = f"http://{HOST}:{other.server_port}/"
        server.plan = [(status, {"Location": location})]
        with pytest.raises(Unavailable, match="redirects are not followed"):
            webhook(server, token=Secret("tok-en")).deliver(json_message(1), 5)
        assert not other.requests and len(server.requests) == 1
    finally:
        other.stop()


def test_answers_that_are_none(server: Server) -> None:
    server.plan = [0]
    with pytest.raises(Unavailable, match="broken off"):
        webhook(server).deliver(json_message(1), 5)
    nobody = WebhookTransport(Secret(f"http://{HOST}:{free_port()}"))
    with pytest.raises(Unavailable, match="connection refused"):
        nobody.connect("gadtest", 5)
    with pytest.raises(Unavailable, match="connection refused"):
        nobody.deliver(json_message(1), 5)


def test_answer_that_trickles(server: Server) -> None:
    server.trickle.set()
    with pytest.raises(Unavailable, match="no answer in time"):
        webhook(server).deliver(json_message(1), 0.3)


def test_encrypted(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    papers = certificates(tmp_path_factory.mktemp("papers"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers / "server.crt", papers / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    address = f"https://{HOST}:{server.server_port}/hook"
    transport = open_transport(address, ca=papers / "ca.crt")
    transport.connect("gadtest", 5)
    transport.deliver(json_message(1), 5)
    assert server.requests[0][2] == {"number": 1}
    with pytest.raises(Unavailable, match="certificate is not trusted"):
        open_transport(address).connect("gadtest", 5)


def test_addresses_and_tokens_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("http://", "https:///x", "ftp://ann:hidden@host", "http://ann:hidden@host:99999"):
        with pytest.raises(UsageError) as caught:
            open_transport(wrong)
        assert "hidden" not in str(caught.value)
    with pytest.raises(UsageError, match="percent-quoted"):
        WebhookTransport(Secret("http://host/a b"))
    monkeypatch.setenv("TOKEN", "hidden\ninjected: 1")
    with pytest.raises(UsageError, match="cannot be sent") as caught:
        open_transport("http://host", token="${TOKEN}")
    assert "hidden" not in str(caught.value)
    with pytest.raises(UsageError, match="found both"):
        open_transport("http://ann:x@host", token="y")
    with pytest.raises(UsageError, match="mqtts:// only"):
        open_transport("http://host", key=Path("x"))


def test_paths_are_not_shown() -> None:
    transport = open_transport("https://ann:hidden@hooks.example:8443/services/hidden?x=hidden")
    assert transport.name == "https://hooks.example:8443"
    assert "hidden" not in repr(vars(transport))


def test_server_away_and_back(tmp_path: Path) -> None:
    """Also across a restart of ours, and with refusals and failures in between."""
    port = free_port()
    lines: list[str] = []

    def sink() -> NetworkSink:
        made = NetworkSink(
            open_transport(f"http://{HOST}:{port}/hook"),
            queue=tmp_path / "q",
            backoff=QUICK,
            drain=0.1,
            log=lines.append,
        )
        made.open([], fake_spec())
        return made

    first = sink()
    for number in range(5):
        first.notification(Notification("event", "line", 1.0, {"number": number}))
    first.close(complete=True)
    server = Server(port)
    server.plan = [204, 503, 204, 400, 0]  # 0, 1 fails, 1, 2 is refused, 3 breaks off
    second = sink()
    server.run()
    second.notification(Notification("event", "line", 1.0, {"number": 5}))
    until(lambda: second.status is not None and second.status.waiting == 0)
    status = second.status
    second.close(complete=True)
    server.stop()
    numbers = [content["number"] for _, _, content in server.requests]
    assert numbers == [0, 1, 1, 2, 3, 3, 4, 5]
    keys = [headers["Idempotency-Key"] for _, headers, _ in server.requests]
    assert keys[1] == keys[2] and keys[4] == keys[5] and len(set(keys)) == 6
    assert status is not None and status.promised == 6 and status.delivered == 5
    assert status.dropped == {"refused": 1}


def test_message_ids_are_safe_in_headers(server: Server) -> None:
    webhook(server).deliver(Message("a b\r\nX: 1", "event", "t", b"{}"), 5)
    assert server.requests[0][1]["Idempotency-Key"] == "a%20b%0D%0AX%3A%201"
    assert message(1).id == "m1"
