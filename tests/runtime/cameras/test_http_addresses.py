"""Addresses over HTTP that are no stream: one image a request, and videos with an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import MakeImage, WriteVideo

from generalad.errors import UsageError
from generalad.runtime.cameras import Reader, State
from generalad.runtime.cameras import http_camera as module
from generalad.runtime.cameras.address import parse_address
from generalad.runtime.secrets import split_user

Content = Callable[[int], tuple[str, bytes]]


class Served:
    """A server whose answers are numbered."""

    def __init__(self, content: Content) -> None:
        served = self
        self.asked = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, data = content(served.asked)
                served.asked += 1
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/camera"


@pytest.fixture
def serve() -> Iterator[Callable[[Content], Served]]:
    servers: list[Served] = []

    def start(content: Content) -> Served:
        servers.append(Served(content))
        return servers[-1]

    yield start
    for one in servers:
        one.server.shutdown()
        one.server.server_close()


def picture(number: int, suffix: str = ".jpg") -> bytes:
    image = np.full((24, 32, 3), 10 + 40 * (number % 5), np.uint8)
    return bytes(cv2.imencode(suffix, image)[1])


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        *(("image/jpeg", ".jpg"), ("image/png", ".png"), ("application/octet-stream", ".jpg")),
        *(("text/plain", ".jpg"), ("binary/octet-stream", ".tif")),
    ],
)
def test_an_address_of_one_image_is_asked_again_and_again(
    serve: Callable[[Content], Served], kind: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 0.05)
    server = serve(lambda number: (kind, picture(number, suffix)))
    with Reader(server.address) as reader:
        seen = []
        for frame in reader.frames():
            assert frame.image is not None
            seen.append(round(float(frame.image.mean())))
            reader.done(frame)
            if len(seen) == 4:
                break
        assert len(set(seen)) > 1
        assert reader.status.attempts == 1, "it does not flap"
        assert [change.state for change in reader.changes] == [State.CONNECTING, State.LIVE]


def test_a_damaged_image_among_them_is_dropped(
    serve: Callable[[Content], Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 0.05)
    server = serve(lambda number: ("image/jpeg", picture(number)[: 50 if number == 1 else None]))
    with Reader(server.address) as reader:
        for taken, frame in enumerate(reader.frames()):
            reader.done(frame)
            if taken == 3:
                break
        assert reader.status.dropped["damaged"] == 1 and reader.status.attempts == 1


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_with_an_end_is_played_once_at_its_rate(
    serve: Callable[[Content], Served],
    tmp_path: Path,
    make_image: MakeImage,
    write_video: WriteVideo,
    suffix: str,
) -> None:
    pytest.importorskip("av")
    path = write_video(tmp_path / f"v{suffix}", [make_image(20 * n) for n in range(8)])
    data, kind = path.read_bytes(), {".mp4": "video/mp4", ".avi": "video/x-msvideo"}[suffix]
    server = serve(lambda number: (kind, data))
    began = time.monotonic()
    with Reader(server.address) as reader:
        for frame in reader.frames():
            reader.done(frame)
        assert reader.status.state is State.ENDED
        assert reader.status.reason == "the source came to its end"
        assert reader.status.captured == 8 and reader.status.attempts == 1
    assert time.monotonic() - began >= 0.7, "ten frames a second"


@pytest.mark.parametrize("scheme", ["RTSP", "Rtsp", "HTTP", "TEST"])
def test_schemes_in_capitals(scheme: str) -> None:
    address = parse_address(f"{scheme}://Me:PW@Camera/Path")
    assert address.text == f"{scheme.lower()}://Me:PW@Camera/Path"


@pytest.mark.parametrize("password", ["p@ss#w?rd/1", "a#b", "1#b", "12?x", "a?b", "a:b:c/d#e"])
def test_a_password_that_takes_the_address_apart_gets_a_hint(password: str) -> None:
    with pytest.raises(UsageError, match="%40 for @") as caught:
        split_user(f"rtsp://user:{password}@camera/1")
    assert password not in str(caught.value)
    with Reader(f"http://user:{password}@camera/1") as reader:
        for _ in reader.frames():
            raise AssertionError
        assert reader.status.state is State.FAILED
        assert "%40 for @" in reader.status.reason and password not in reader.status.reason


@pytest.mark.parametrize(
    "url",
    ["rtsp://me:pw@camera/live@2", "rtsp://camera:554/live@2", "http://camera/?user=me@x.org"],
)
def test_an_at_sign_in_a_path_is_none_of_a_password(url: str) -> None:
    assert "camera" in split_user(url)[0]
