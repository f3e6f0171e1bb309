"""The reader against real servers, which are paused, killed and restarted, and which misbehave."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MakePicture, WriteVideo
from live_helpers import balanced, states, until

from generalad.runtime.live import Backoff, Captured, Reader, State

HERE = Path(__file__).parent
SYSTEM_PYTHON = "/usr/bin/python3"  # has GStreamer's bindings where Debian's packages are installed
QUICK = Backoff(first=0.1, cap=0.3, jitter=0.5, good_after=1.0)
STALL = 1.0
LOST = "the connection was lost: the server ended it"
HAS_RTSP = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert all(Gst.ElementFactory.find(name) for name in ("videotestsrc", "x264enc", "rtph264pay"))
"""


class Server:
    """A server in a process of its own, which keeps its port when it is started again."""

    def __init__(self, python: str, script: str) -> None:
        self._command = [python, str(HERE / script)]
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self, *settings: str) -> None:
        command = [*self._command, str(self.port), *settings]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


@pytest.fixture
def http() -> Iterator[Server]:
    server = Server(sys.executable, "live_http_server.py")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def rtsp_works() -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [SYSTEM_PYTHON, "-c", HAS_RTSP]
        if subprocess.run(command, capture_output=True, timeout=60).returncode == 0:
            return
    pytest.skip(
        "no RTSP server: needs gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-good, "
        "-bad and -ugly"
    )


@pytest.fixture
def rtsp(rtsp_works: None) -> Iterator[Server]:
    server = Server(SYSTEM_PYTHON, "live_rtsp_server.py")
    yield server
    server.kill()


def make(address: str, **settings: Any) -> Reader:
    settings = {"stall_after": STALL, "open_timeout": 10.0, "backoff": QUICK, **settings}
    return Reader(address, **settings)


class Consumer:
    """Takes frames and checks each: red, and never anything else."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.last: Captured | None = None

    def until(self, condition: Any) -> None:
        until(lambda: self._take() and condition())

    def _take(self) -> bool:
        assert balanced(self.reader)
        frame = self.reader.next(timeout=0)
        if frame is not None:
            red, green, blue = frame.image.mean(axis=(0, 1))
            assert red > 180 and green < 70 and blue < 70
            spread = frame.image[..., 0].mean(axis=1).std()
            assert spread < 20, "half of a picture"
            assert self.last is None or frame.index > self.last.index
            assert self.last is None or frame.generation >= self.last.generation
            self.reader.done(frame)
            self.last = frame
        return True

    def frames(self, more: int) -> None:
        """Wait for so many frames of the latest attempt."""
        goal = self.reader.status.processed + more
        self.until(lambda: self.reader.status.processed >= goal)


@contextlib.contextmanager
def watching(address: str, **settings: Any) -> Iterator[tuple[Reader, Consumer]]:
    with make(address, **settings) as reader:
        yield reader, Consumer(reader)


def report(fault: str, reader: Reader, began: float, ended: float) -> None:
    """One line of the table of faults; shown with `pytest -s`."""
    first = next(c for c in reader.changes if c.time > began and c.state is not State.LIVE)
    again = next((c for c in reader.changes if c.time > ended and c.state is State.LIVE), None)
    recovered = f"{again.time - ended:.2f} s" if again else "-"
    dropped = dict(reader.status.dropped)
    print(f"\n| {fault} | {first.state.value}: {first.reason} after {first.time - began:.2f} s "
          f"| {recovered} | {dropped} |")  # fmt: skip


def pause_and_go_on(server: Server, address: str, fault: str) -> None:
    with watching(address) as (reader, consumer):
        consumer.frames(5)
        server.send(signal.SIGSTOP)
        began = time.monotonic()
        consumer.until(lambda: reader.status.state is State.STALLED)
        assert "no frame for 1 s" in reader.status.reason
        until(lambda: time.monotonic() > began + 2.5 * STALL)
        server.send(signal.SIGCONT)
        ended = time.monotonic()
        consumer.until(lambda: reader.status.state is State.LIVE)
        consumer.frames(3)
        report(fault, reader, began, ended)
        assert reader.status.reconnects == 1 and consumer.last is not None
        assert consumer.last.generation == reader.status.attempts > 1
        until(lambda: not reader.stuck)


def kill_and_restart(server: Server, address: str, fault: str, size: str) -> None:
    with watching(address) as (reader, consumer):
        consumer.frames(5)
        before = reader.status.resolution
        server.kill()
        began = time.monotonic()
        consumer.until(lambda: reader.status.state is not State.LIVE)
        until(lambda: reader.status.attempts > 2)
        server.start(f"size={size}")
        ended = time.monotonic()
        consumer.until(lambda: reader.status.state is State.LIVE)
        consumer.frames(3)
        report(fault, reader, began, ended)
        width, height = map(int, size.split("x"))
        assert before != reader.status.resolution == (height, width)
        assert consumer.last is not None and consumer.last.image.shape == (height, width, 3)


# HTTP


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
    with watching(f"http://127.0.0.1:{http.port}/", policy="all") as (reader, consumer):
        began = time.monotonic()
        consumer.until(lambda: reader.status.reconnects == 1)
        report("HTTP half a frame, closed", reader, began, began)
        lost = [c for c in reader.changes if c.state is State.RECONNECTING]
        assert lost[0].reason == "the connection was lost: the server closed it"
        consumer.frames(3)


@pytest.mark.parametrize("lengths", ["0", "1"])
def test_http_damaged_frame(http: Server, lengths: str) -> None:
    http.start("cut=5", f"lengths={lengths}")
    with watching(f"http://127.0.0.1:{http.port}/", policy="all") as (reader, consumer):
        consumer.frames(8)
        assert reader.status.dropped == {"damaged": 1} and reader.status.attempts == 1


def test_http_trickle(http: Server) -> None:
    http.start("trickle=5")
    with watching(f"http://127.0.0.1:{http.port}/", policy="all") as (reader, consumer):
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
    tmp_path: Path, picture: MakePicture, write_video: WriteVideo
) -> None:
    image = picture(20, size=(48, 64))
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
        with watching(f"http://127.0.0.1:{port}/v.avi", policy="all") as (reader, consumer):
            consumer.frames(12)
            until(lambda: LOST in [c.reason for c in reader.changes])
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
    other = Server(sys.executable, "live_http_server.py")
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


# RTSP


def test_rtsp_paused(rtsp: Server) -> None:
    rtsp.start()
    pause_and_go_on(rtsp, f"rtsp://127.0.0.1:{rtsp.port}/cam", "RTSP server paused 2.5 s")


def test_rtsp_killed_and_restarted_with_another_resolution(rtsp: Server) -> None:
    rtsp.start()
    address = f"rtsp://127.0.0.1:{rtsp.port}/cam"
    kill_and_restart(rtsp, address, "RTSP server killed", "160x128")


def test_rtsp_password(rtsp: Server, capfd: pytest.CaptureFixture[str]) -> None:
    rtsp.start("user=me:s3cr3t")
    with watching(f"rtsp://me:s3cr3t@127.0.0.1:{rtsp.port}/cam") as (_, consumer):
        consumer.frames(2)
    with watching(f"rtsp://me:wr0ng@127.0.0.1:{rtsp.port}/cam") as (reader, _):
        until(lambda: reader.status.attempts > 1)
        assert reader.status.reason == "cannot be opened: RTSP 401, user or password refused"
        assert "wr0ng" not in f"{reader!r}{reader.status}{reader.changes}"
    printed = "".join(capfd.readouterr())
    assert "s3cr3t" not in printed and "wr0ng" not in printed


@pytest.mark.parametrize(
    ("path", "settings", "reason"),
    [
        ("cam", ["user=me:s3cr3t"], "RTSP 401, a password is needed"),
        ("no", [], "RTSP 404, Not Found"),
    ],
)
def test_rtsp_refusals(rtsp: Server, path: str, settings: list[str], reason: str) -> None:
    rtsp.start(*settings)
    with watching(f"rtsp://127.0.0.1:{rtsp.port}/{path}") as (reader, _):
        until(lambda: reader.status.attempts > 1)
        assert reader.status.reason == f"cannot be opened: {reason}"


def test_rtsp_a_server_that_never_answers_delays_no_other(rtsp: Server) -> None:
    """Opening hangs in one driver call while another camera is opened and read."""
    rtsp.start()
    other = Server(SYSTEM_PYTHON, "live_rtsp_server.py")
    other.start()
    other.send(signal.SIGSTOP)
    try:
        with make(f"rtsp://127.0.0.1:{other.port}/cam", open_timeout=60.0) as paused:
            until(lambda: paused.status.attempts == 1)
            with watching(f"rtsp://127.0.0.1:{rtsp.port}/cam") as (reader, consumer):
                consumer.frames(5)
                assert reader.status.attempts == 1 and paused.status.state is State.CONNECTING
            other.send(signal.SIGCONT)
            until(lambda: paused.status.state is State.LIVE)
    finally:
        other.kill()
