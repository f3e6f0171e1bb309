"""The reader against a real RTSP server: paused, killed, harmed, hanging beside others."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from camera_helpers import balanced, states, until
from camera_rtsp_proxy import RtspProxy
from camera_servers import (
    SYSTEM_PYTHON,
    Server,
    kill_and_restart,
    make,
    pause_and_go_on,
    report,
    watching,
)

from generalad.runtime.cameras import Reader, State

pytest.importorskip("av", reason="the streams extra is not installed")

HAS_RTSP = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
needed = ("videotestsrc", "x264enc", "x265enc", "rtph264pay", "rtph265pay")
assert all(Gst.ElementFactory.find(name) for name in needed)
"""


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
    server = Server(SYSTEM_PYTHON, "camera_rtsp_server.py")
    yield server
    server.kill()


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


def test_rtsps(rtsp: Server, tmp_path: Path) -> None:
    """The same over TLS; the certificate of a camera, which nobody has signed, is taken."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    file = tmp_path / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=camera -keyout"
    subprocess.run(
        [*command.split(), tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"],
        check=True,
        capture_output=True,
    )
    file.write_text("".join((tmp_path / n).read_text() for n in ("certificate.pem", "key.pem")))
    rtsp.start("user=me:s3cr3t", f"tls={file}")
    with watching(f"rtsps://me:s3cr3t@127.0.0.1:{rtsp.port}/cam") as (_, consumer):
        consumer.frames(2)
    with watching(f"rtsps://me:wr0ng@127.0.0.1:{rtsp.port}/cam") as (reader, _):
        until(lambda: reader.status.attempts > 1)
        assert reader.status.reason == "cannot be opened: RTSP 401, user or password refused"


def test_rtsp_password_that_is_repaired(rtsp: Server) -> None:
    rtsp.start("user=me:other")
    with watching(f"rtsp://me:s3cr3t@127.0.0.1:{rtsp.port}/cam") as (reader, consumer):
        until(lambda: "401" in reader.status.reason)
        rtsp.kill()
        rtsp.start("user=me:s3cr3t")
        consumer.frames(2)


def test_rtsp_h265(rtsp: Server) -> None:
    rtsp.start("codec=h265")
    with watching(f"rtsp://127.0.0.1:{rtsp.port}/cam") as (reader, consumer):
        consumer.frames(5)
        assert "damaged" not in reader.status.dropped


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_rtsp_codec_parameters_only_with_the_frames_and_sound(rtsp: Server, codec: str) -> None:
    """Some cameras announce neither the size nor anything else of their images."""
    rtsp.start(f"codec={codec}", "inband=1", "sound=1")
    proxy = RtspProxy(rtsp.port)
    proxy.answer = lambda answer: answer.replace(b"sprop-", b"other-")
    with watching(f"rtsp://127.0.0.1:{proxy.port}/cam") as (reader, consumer):
        consumer.frames(20)
        assert "damaged" not in reader.status.dropped
    proxy.close()


def test_rtsp_unknown_host_and_silence() -> None:
    with make("rtsp://no.such.host.invalid/cam") as reader:
        until(lambda: reader.status.attempts > 1)
        assert reader.status.reason.startswith("cannot be opened: no connection")
    silent = socket.create_server(("127.0.0.1", 0))
    address = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/cam"
    with make(address, open_timeout=1.0) as reader:
        until(lambda: reader.status.attempts > 1)
        assert "opening takes 1 s" in [change.reason for change in reader.changes]
    silent.close()


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


def test_rtsp_udp_where_the_server_offers_nothing_else(rtsp: Server) -> None:
    rtsp.start("udp=1")
    with watching(f"rtsp://127.0.0.1:{rtsp.port}/cam") as (_, consumer):
        consumer.frames(5)


def test_rtsp_first_frames_are_not_stored_ones(rtsp: Server) -> None:
    """Nothing is read ahead while opening: the frames come at their own rate from the first."""
    rtsp.start()
    with watching(f"rtsp://127.0.0.1:{rtsp.port}/cam") as (_, consumer):
        consumer.until(lambda: len(consumer.recorder.given) >= 12)
        times = [given.time for given in consumer.recorder.given]
        assert times[11] - times[0] > 0.5 * 11 / 15


# Harm on the way


@pytest.fixture
def proxy(rtsp: Server) -> Iterator[RtspProxy]:
    rtsp.start("noise=1")
    found = RtspProxy(rtsp.port)
    yield found
    found.close()


@contextlib.contextmanager
def through(proxy: RtspProxy) -> Iterator[tuple[Reader, Callable[[int], None]]]:
    """A reader of the snow that comes through a proxy, and what waits for so many frames."""
    with make(f"rtsp://127.0.0.1:{proxy.port}/cam") as reader:

        def frames(more: int) -> None:
            goal = reader.status.processed + more

            def taken() -> bool:
                assert balanced(reader)
                if (frame := reader.next(timeout=0)) is not None:
                    assert frame.image is not None and frame.image.std() > 30, "no snow"
                    reader.done(frame)
                return reader.status.processed >= goal

            until(taken)

        yield reader, frames


def once(harm: Callable[[bytes], bytes | None]) -> Callable[[int, bytes], bytes | None]:
    """Harm one packet in the middle of a frame that is no key frame."""
    harmed: list[int] = []

    def tamper(number: int, packet: bytes) -> bytes | None:
        data = packet[12:]
        # Fragments (28) of slices (1) that neither begin nor end one.
        middle = data[0] & 31 == 28 and data[1] & 0xC0 == 0 and data[1] & 31 == 1
        if harmed or not middle:
            return packet
        harmed.append(number)
        return harm(packet)

    return tamper


def test_rtsp_a_lost_packet(proxy: RtspProxy) -> None:
    """What builds on the damaged frame is held back, the next key frame is shown again."""
    with through(proxy) as (reader, frames):
        frames(3)
        proxy.tamper = once(lambda _: None)
        until(lambda: reader.status.dropped.get("damaged", 0) > 0)
        frames(10)
        assert reader.status.attempts == 1 and reader.status.dropped["damaged"] <= 15


def test_rtsp_all_of_a_frame_is_lost(proxy: RtspProxy) -> None:
    """The frames after it decode without an error, and are wrong."""
    with through(proxy) as (reader, frames):
        frames(3)
        seen: list[bytes] = []  # times of frames, which all their packets bear

        def lose_the_third_frame(_: int, packet: bytes) -> bytes | None:
            if packet[4:8] not in seen:
                seen.append(packet[4:8])
            return None if packet[4:8] in seen[2:3] else packet

        proxy.tamper = lose_the_third_frame
        until(lambda: reader.status.dropped.get("damaged", 0) > 0)
        frames(20)
        assert reader.status.attempts == 1 and reader.status.dropped["damaged"] <= 15


def test_rtsp_flipped_bits(proxy: RtspProxy) -> None:
    chance = 0.0

    def flip(_: int, packet: bytes) -> bytes:
        nonlocal chance
        chance += 0.01
        if chance < 1:
            return packet
        chance = 0.0
        return packet[:40] + bytes(byte ^ 0xFF for byte in packet[40:80]) + packet[80:]

    with through(proxy) as (reader, frames):
        frames(3)
        proxy.tamper = flip
        until(lambda: reader.status.dropped.get("damaged", 0) > 3)
        proxy.tamper = lambda _, packet: packet
        frames(10)


def test_rtsp_trickle(proxy: RtspProxy) -> None:
    with through(proxy) as (reader, frames):
        frames(3)
        proxy.trickle = 1.0
        began = time.monotonic()
        until(lambda: reader.status.state is State.STALLED)
        assert "no frame for 1 s" in reader.status.reason
        proxy.trickle = 0.0
        ended = time.monotonic()
        frames(3)
        report("RTSP a byte a second", reader, began, ended)
        until(lambda: not reader.stuck)


# Many cameras


def threads_and_files() -> tuple[int, int]:
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts in /proc")
def test_rtsp_one_hangs_in_opening_and_one_in_reading_beside_others(rtsp: Server) -> None:
    rtsp.start()
    paused_server = Server(SYSTEM_PYTHON, "camera_rtsp_server.py")
    paused_server.start()
    silent = socket.create_server(("127.0.0.1", 0))
    address = f"rtsp://127.0.0.1:{rtsp.port}/cam"
    with make(address) as warm:  # what libraries load once does not count
        until(lambda: warm.status.captured)
    until(lambda: not gad_threads())
    before = threads_and_files()
    names = [address] * 3 + [
        f"rtsp://127.0.0.1:{silent.getsockname()[1]}/cam",
        f"rtsp://127.0.0.1:{paused_server.port}/cam",
    ]
    readers = [make(name, open_timeout=3.0) for name in names]
    *fine, hangs, paused = readers
    try:
        hangs.start()
        until(lambda: hangs.status.attempts == 1)
        for reader in (*fine, paused):
            reader.start()
        until(lambda: all(reader.status.captured for reader in (*fine, paused)))
        assert hangs.status.captured == 0
        paused_server.send(signal.SIGSTOP)
        until(lambda: all(State.STALLED in states(reader) for reader in (hangs, paused)))
        counts = [reader.status.captured for reader in fine]
        for reader, count in zip(fine, counts, strict=True):
            until(lambda reader=reader, count=count: reader.status.captured > count + 10)  # type: ignore[misc]
            assert reader.status.attempts == 1 and balanced(reader)
    finally:
        for reader in readers:
            reader.close()
        paused_server.kill()
        silent.close()
    until(lambda: not gad_threads())
    until(lambda: threads_and_files() <= before)


def gad_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gad-")]
