"""Passwords go to the host that they were given for; a redirect to another one is an error."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from generalad.runtime.cameras.address import parse_address
from generalad.runtime.cameras.av_camera import AvCamera
from generalad.runtime.cameras.camera import CameraLost
from generalad.runtime.cameras.http_camera import HttpCamera
from generalad.runtime.cameras.redirects import rtsp_address, target_of
from generalad.runtime.cameras.rtsp_relay import RtspRelay

Answer = Callable[[str], str | None]
"""From a request's head to the answer's; None hangs up."""

BASIC = 'WWW-Authenticate: Basic realm="x"'
DIGEST = 'WWW-Authenticate: Digest realm="x", nonce="n", qop="auth"'


class Server:
    """Answers each request on each connection, and keeps all it was sent."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[str] = []
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(4096)
                    if not more:
                        return
                    data += more
                head, data = data.split(b"\r\n\r\n", 1)
                self.requests.append(head.decode())
                answer = self._answer(head.decode())
                if answer is None:
                    return
                connection.sendall(answer.encode())

    def close(self) -> None:
        self._socket.close()

    @property
    def secrets(self) -> list[str]:
        """Requests with credentials."""
        return [one for one in self.requests if "authorization:" in one.lower()]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def rtsp(status: str, *fields: str) -> Answer:
    def answer(request: str) -> str:
        number = next(line for line in request.split("\r\n") if line.startswith("CSeq"))
        return "\r\n".join([f"RTSP/1.0 {status}", number, *fields, "", ""])

    return answer


def after_password(then: Answer, challenge: str) -> Answer:
    asks = rtsp("401 No", challenge)
    return lambda request: (then if "Authorization:" in request else asks)(request)


def only(method: str, then: Answer) -> Answer:
    fine = rtsp("200 OK")
    return lambda request: (then if request.startswith(method) else fine)(request)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "305 Proxy", "307 Go"])
@pytest.mark.parametrize("challenge", [None, BASIC, DIGEST])
@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE"])
def test_rtsp_to_another_host(
    serve: Callable[[Answer], Server], status: str, challenge: str | None, method: str
) -> None:
    other = serve(rtsp("401 No", BASIC))
    go = rtsp(status, f"Location: rtsp://localhost:{other.port}/other")
    camera = serve(only(method, after_password(go, challenge) if challenge else go))
    address = parse_address(f"rtsp://admin:s3cr3t@127.0.0.1:{camera.port}/video")
    with pytest.raises(CameraLost) as caught:
        AvCamera(address, open_timeout=5, read_timeout=5).open()
    text = str(caught.value)
    assert f"127.0.0.1:{camera.port}" in text and f"localhost:{other.port}" in text
    assert "s3cr3t" not in text
    assert other.requests == []


SDP = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
SDP += "a=rtpmap:96 H264/90000\r\na=control:track1\r\n"


@pytest.mark.parametrize("challenge", [BASIC, DIGEST])
@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE", "SETUP"])
def test_rtsp_to_another_host_on_the_connection_that_is_watched(
    serve: Callable[[Answer], Server], challenge: str, method: str
) -> None:
    """The camera redirects only after it was asked whether it does."""
    other = serve(rtsp("401 No", BASIC))
    go = rtsp("302 Found", f"Location: rtsp://localhost:{other.port}/other")
    body = f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}"

    def answer(request: str) -> str | None:
        if "User-Agent: Lavf" in request and request.startswith(method):
            return go(request)
        if request.startswith("DESCRIBE"):
            return f"{rtsp('200 OK', body)(request)}{SDP}"
        return rtsp("200 OK")(request)

    camera = serve(after_password(answer, challenge))
    address = parse_address(f"rtsp://admin:s3cr3t@127.0.0.1:{camera.port}/video")
    with pytest.raises(CameraLost) as caught:
        AvCamera(address, open_timeout=5, read_timeout=5).open()
    asked = [one for one in camera.secrets if one.startswith(f"{method} rtsp://127.0.0.1:")]
    assert any("User-Agent: Lavf" in one for one in asked)  # logged in, at its own address
    assert f"localhost:{other.port}" in str(caught.value) and "s3cr3t" not in str(caught.value)
    assert other.requests == []


def test_the_relay_is_for_ffmpeg_alone(serve: Callable[[Answer], Server]) -> None:
    camera = serve(rtsp("200 OK"))
    relay = RtspRelay(f"rtsp://me:s3cr3t@127.0.0.1:{camera.port}/video", timeout=5)
    port = int(relay.url.split("/")[2].rpartition(":")[2])
    with contextlib.closing(relay), socket.create_connection(("127.0.0.1", port), 5) as stranger:
        stranger.sendall(b"OPTIONS rtsp://127.0.0.1/video RTSP/1.0\r\nCSeq: 1\r\n\r\n")
        assert stranger.recv(100) == b""
    assert camera.requests == []


def test_rtsp_to_another_path_of_the_same_host(serve: Callable[[Answer], Server]) -> None:
    def answer(request: str) -> str | None:
        if "/old" in request.split("\r\n")[0]:
            return rtsp("302 Found", "Location: /new?x=1")(request)
        return rtsp("200 OK")(request)

    camera = serve(answer)
    given = f"rtsp://me:s3cr3t@127.0.0.1:{camera.port}/old"
    found = rtsp_address(given, timeout=5)
    assert found == f"rtsp://me:s3cr3t@127.0.0.1:{camera.port}/new?x=1"


def test_rtsp_in_a_circle(serve: Callable[[Answer], Server]) -> None:
    camera = serve(rtsp("302 Found", "Location: /again"))
    with pytest.raises(CameraLost, match="redirected more than"):
        rtsp_address(f"rtsp://me:pw@127.0.0.1:{camera.port}/", timeout=5)


def test_the_password_is_answered_as_it_is_asked_for(serve: Callable[[Answer], Server]) -> None:
    for challenge, begins in ((BASIC, "Basic "), (DIGEST, 'Digest username="me"')):
        camera = serve(after_password(rtsp("200 OK"), challenge))
        rtsp_address(f"rtsp://me:p%40w@127.0.0.1:{camera.port}/", timeout=5)
        (given, *_) = camera.secrets
        field = next(line for line in given.split("\r\n") if line.startswith("Authorization"))
        assert field.startswith(f"Authorization: {begins}")
        assert "p@w" not in given
        if challenge == BASIC:
            assert base64.b64decode(field.split()[-1]) == b"me:p@w"


@pytest.mark.parametrize(
    "answer", [lambda request: None, lambda request: "HTTP/1.1 200 OK\r\n\r\n", lambda r: "x" * 99]
)
def test_what_is_no_rtsp_gets_no_password(
    serve: Callable[[Answer], Server], answer: Answer
) -> None:
    camera = serve(answer)
    with pytest.raises(CameraLost, match="cannot be opened"):
        rtsp_address(f"rtsp://me:pw@127.0.0.1:{camera.port}/", timeout=0.5)
    assert camera.secrets == []
    given = f"rtsp://127.0.0.1:{camera.port}/"
    assert rtsp_address(given, timeout=0.5) == given, "without a password FFmpeg may try"


def http(status: str, *fields: str) -> str:
    return "\r\n".join(
        [f"HTTP/1.1 {status}", *fields, "Content-Length: 0", "Connection: close", "", ""]
    )


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Go", "308 Go"])
@pytest.mark.parametrize("challenge", [None, BASIC, DIGEST])
def test_http_to_another_host(
    serve: Callable[[Answer], Server], status: str, challenge: str | None
) -> None:
    other = serve(lambda request: http("401 No", BASIC))
    go = http(status, f"Location: http://localhost:{other.port}/other")

    def answer(request: str) -> str:
        asks = challenge is not None and "Authorization:" not in request
        return http("401 No", str(challenge)) if asks else go

    camera = serve(answer)
    address = parse_address(f"http://admin:s3cr3t@127.0.0.1:{camera.port}/video")
    with pytest.raises(CameraLost) as caught:
        HttpCamera(address, open_timeout=5, read_timeout=5).open()
    text = str(caught.value)
    assert f"127.0.0.1:{camera.port}" in text and f"localhost:{other.port}" in text
    assert "s3cr3t" not in text
    assert other.requests == []


@pytest.mark.parametrize(
    ("address", "location", "target"),
    [
        ("http://u:p@cam/a", "/b", "http://u:p@cam/b"),
        ("http://u:p@cam/a/x", "b?c=1", "http://u:p@cam/a/b?c=1"),
        ("http://u:p@cam/a", "http://CAM:80/b", "http://u:p@CAM:80/b"),
        ("http://u:p@cam/a", "https://cam/b", "https://u:p@cam/b"),
        ("rtsp://u:p@cam/a", "rtsp://cam:554/b", "rtsp://u:p@cam:554/b"),
        ("rtsp://u:p@cam/a", "rtsp://x:y@cam/b", "rtsp://u:p@cam/b"),
        ("rtsp://cam/a", "rtsps://cam/b", "rtsps://cam/b"),
        ("http://cam/a", "http://cam:8080/b", None),
        ("http://u:p@cam/a", "http://cam.evil/b", None),
        ("http://u:p@cam/a", "//evil/b", None),
        ("http://u:p@cam/a", "http://cam@evil/b", None),
        ("https://u:p@cam/a", "http://cam/b", None),
        ("rtsps://u:p@cam/a", "rtsp://cam/b", None),
        ("rtsp://u:p@cam/a", "http://cam/b", None),
        ("rtsp://u:p@cam/a", "rtsp://cam:99999/b", None),
        ("http://u:p@cam/a", "ftp://cam/b", None),
        ("http://u:p@cam/a", "file:///etc/passwd", None),
    ],
)
def test_where_a_redirect_may_lead(address: str, location: str, target: str | None) -> None:
    if target is not None:
        assert target_of(address, location) == target
        return
    with pytest.raises(CameraLost) as caught:
        target_of(address, location)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("camera_class", [HttpCamera, AvCamera])
def test_a_proxy_of_the_environment_is_not_given_the_password(
    serve: Callable[[Answer], Server],
    monkeypatch: pytest.MonkeyPatch,
    camera_class: type[HttpCamera] | type[AvCamera],
) -> None:
    def answer(request: str) -> str:
        return http("404 No") if "Authorization:" in request else http("401 No", BASIC)

    camera, proxy = serve(answer), serve(answer)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    address = parse_address(f"http://admin:s3cr3t@127.0.0.1:{camera.port}/video")
    with pytest.raises(CameraLost):
        camera_class(address, open_timeout=5, read_timeout=5).open()
    assert camera.secrets and not proxy.requests
