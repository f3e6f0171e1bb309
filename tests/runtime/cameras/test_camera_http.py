"""The reader against real HTTP servers, which are paused, killed and restarted, and misbehave."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from camera_helpers import states, until
from camera_servers import Server, kill_and_restart, make, pause_and_go_on, report, watching
from conftest import MakeImage, WriteVideo

from generalad.runtime.cameras import Backoff, State

LOST = "the connection was lost: the server ended it"


@pytest.fixture
def http() -> Iterator[Server]:
    server = Server(sys.executable, "camera_http_server.py")
    yield server
    server.kill()


@pytest.mark.parametrize("lengths", ["0", "1"])
def test_http_frames(http: Server, lengths: str) -> None:
    http.start(f"lengths={lengths}", "resize=6")
    with watching(f"http://127.0.0.1:{http.port}/video") as (reader, consumer):
        consumer.frames(5)
        consumer.until(lambda: reader.status.resolution == (24, 32))
        assert states(reader) == [State.CONNECTING, State.LIVE]
        consumer.until(lambda: reader.status.fps)
        assert reader.status.fps < 40


def test_http_paused(http: Server) -> None:
    http.start()
    pause_and_go_on(http, f"http://127.0.0.1:{http.port}/", "HTTP server paused 2.5 s")


def test_http_killed_and_restarted(http: Server) -> None:
    http.start()
    kill_and_restart(http, f"http://127.0.0.1:{http.port}/", "HTTP server killed", "96x32")


def test_http_down_at_the_start(http: Server) -> None:
    http.start()
    http.kill()
    with watching(f"http://127.0.0.1:{http.port}/") as (reader, consumer):
        until(lambda: reader.status.attempts > 2)
        assert reader.status.state is State.RECONNECTING and "refused" in reader.status.reason
        http.start()
        consumer.frames(2)
        assert reader.status.reconnects == 0


@pytest.mark.parametrize("lengths", ["0", "1"])
def test_http_half_a_frame(http: Server, lengths: str) -> None:
    http.start("half=5", f"lengths={lengths}")
    with watching(f"http://127.0.0.1:{http.port}/") as (reader, consumer):
        began = time.monotonic()
        consumer.until(lambda: reader.status.reconnects == 1)
        report("HTTP half a frame, closed", reader, began, began)
        lost = [c for c in reader.changes if c.state is State.RECONNECTING]
        assert lost[0].reason == "the connection was lost: the server closed it"
        consumer.frames(3)


@pytest.mark.parametrize("lengths", ["0", "1"])
def test_http_damaged_frame(http: Server, lengths: str) -> None:
    http.start("cut=5", f"lengths={lengths}")
    with watching(f"http://127.0.0.1:{http.port}/") as (reader, consumer):
        consumer.frames(8)
        status = reader.status
        assert status.dropped["damaged"] == 1 and status.attempts == 1
        assert set(status.dropped) <= {"damaged", "newer frame"}


def test_http_trickle(http: Server) -> None:
    http.start("trickle=5")
    with watching(f"http://127.0.0.1:{http.port}/") as (reader, consumer):
        consumer.frames(5)
        began = time.monotonic()
        consumer.until(lambda: reader.status.state is State.STALLED)
        consumer.until(lambda: reader.status.state is State.LIVE)
        report("HTTP trickle", reader, began, began)
        until(lambda: any(not name.endswith("#1") for name in reader.stuck) or not reader.stuck)


@pytest.mark.parametrize("scheme", ["user", "digest"])
def test_http_password(http: Server, scheme: str) -> None:
    http.start(f"{scheme}=me:s3cr3t")
    with watching(f"http://me:s3cr3t@127.0.0.1:{http.port}/") as (_, consumer):
        consumer.frames(2)
    with watching(f"http://me:wr0ng@127.0.0.1:{http.port}/") as (reader, _):
        until(lambda: reader.status.attempts > 1)
        assert reader.status.reason == "cannot be opened: HTTP 401, user or password refused"
        assert "wr0ng" not in f"{reader!r}{reader.status}{reader.changes}"


def test_http_what_is_no_motion_jpeg_is_read_by_ffmpeg(
    tmp_path: Path, make_image: MakeImage, write_video: WriteVideo
) -> None:
    image = make_image(20, size=(48, 64))
    image[..., 0] = 220
    write_video(tmp_path / "v.avi", [image] * 12)
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split(" port ")[1].split()[0]
        once = Backoff(first=60, cap=60)  # one attempt only
        with watching(f"http://127.0.0.1:{port}/v.avi", backoff=once) as (reader, consumer):
            until(lambda: reader.status.state is State.ENDED)  # it is finite: not played again
            consumer.until(lambda: reader.status.in_flight == 0)
            status = reader.status
            assert status.captured == 12
            assert status.processed and set(status.dropped) <= {"newer frame"}
        with watching(f"http://127.0.0.1:{port}/none") as (reader, _):
            until(lambda: reader.status.reason == "cannot be opened: HTTP 404, File not found")
    finally:
        server.kill()
        server.communicate()


def test_http_proper_end_is_a_lost_connection(http: Server) -> None:
    http.start("end=5")
    with watching(f"http://127.0.0.1:{http.port}/") as (reader, consumer):
        consumer.until(lambda: reader.status.reconnects == 1)
        assert "the server ended the stream" in [c.reason.split(": ")[-1] for c in reader.changes]


def test_http_one_paused_server_delays_no_other(http: Server) -> None:
    http.start()
    other = Server(sys.executable, "camera_http_server.py")
    other.start()
    try:
        with (
            make(f"http://127.0.0.1:{other.port}/") as paused,
            watching(f"http://127.0.0.1:{http.port}/") as (reader, consumer),
        ):
            until(lambda: paused.status.captured)
            other.send(signal.SIGSTOP)
            consumer.until(lambda: paused.status.state is State.STALLED)
            consumer.frames(3)
            assert states(reader) == [State.CONNECTING, State.LIVE]
    finally:
        other.kill()
