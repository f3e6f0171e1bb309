"""Faults of cameras, one after the other, against real servers, and what the reader makes of them.

    python benchmarks/stream_faults.py

Prints a table: when a fault was noticed after it began, when whole frames came again after it was
over, frames that were lost (sent at the camera's rate, not handed out), and a neighbour on a server
of its own that was read all along. Settings are the defaults of `Reader`. Takes six minutes and
needs the packages of the RTSP tests.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from camera_rtsp_proxy import RtspProxy
from camera_servers import SYSTEM_PYTHON, Server

from generalad.runtime.cameras import Reader, State

LASTS = 8.0  # seconds of each fault
BEFORE = 4.0
USER = "user=me:right"
Act = Callable[[], object]


class Watched:
    """A reader, its consumer and the times of its frames."""

    def __init__(self, address: str) -> None:
        self.reader = Reader(address)
        self.times: list[float] = []

    def __enter__(self) -> Watched:
        self.reader.start()
        threading.Thread(target=self._consume, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    def _consume(self) -> None:
        for frame in self.reader.frames():
            self.times.append(frame.captured_at or 0.0)
            self.reader.done(frame)

    def between(self, start: float, end: float) -> int:
        return sum(start <= t < end for t in self.times)

    def noticed(self) -> bool:
        status = self.reader.status
        return status.state is not State.LIVE or "damaged" in status.dropped


class Rtsp:
    """A server, and a proxy before it."""

    def __init__(self, stack: ExitStack, *settings: str) -> None:
        self.server = Server(SYSTEM_PYTHON, "camera_rtsp_server.py")
        self.server.start(*settings)
        stack.callback(self.server.kill)
        self.proxy = RtspProxy(self.server.port)
        stack.callback(self.proxy.close)
        self.address = f"rtsp://me:right@127.0.0.1:{self.server.port}/cam"
        self.through = f"rtsp://127.0.0.1:{self.proxy.port}/cam"

    def again(self, *settings: str) -> None:
        self.server.kill()
        self.server.start(*settings)


def main() -> None:
    """Run every fault and print the table."""
    print("| Fault | Noticed after | As | Back after | Frames lost | Neighbour |")
    print("|---|---|---|---|---|---|")
    for fault in (
        killed, paused, silent, password, resolution, trickle, one_packet, flips, http_killed,
        http_paused, trial_stall, trial_refuse,
    ):  # fmt: skip
        with ExitStack() as stack:
            neighbour = stack.enter_context(Watched(Rtsp(stack, USER).address))
            print(measured(fault, neighbour, stack), flush=True)


Fault = Callable[[ExitStack], tuple[str, Act, Act]]


def measured(fault: Fault, neighbour: Watched, stack: ExitStack) -> str:
    """One line of the table."""
    address, begin, end = fault(stack)
    watched = stack.enter_context(Watched(address))
    wait(lambda: len(watched.times) > 5 and len(neighbour.times) > 5)
    settled = time.monotonic()
    time.sleep(BEFORE)
    began = time.monotonic()
    rate = watched.between(settled, began) / (began - settled)
    begin()
    began = time.monotonic()
    noticed = wait(watched.noticed, began + LASTS) - began
    reason = watched.reader.changes[-1].reason
    if watched.reader.status.state is State.LIVE:
        reason = "damaged"
    time.sleep(max(0.0, began + LASTS - time.monotonic()))
    end()
    over = time.monotonic()
    first = len(watched.times)
    wait(lambda: len(watched.times) > first and watched.reader.status.state is State.LIVE)
    back = watched.times[first]
    time.sleep(2)
    lost = rate * (back - began) - watched.between(began, back)
    gaps = [b - a for a, b in zip(neighbour.times, neighbour.times[1:], strict=False)]
    fps = neighbour.between(began, back) / (back - began)
    name = (fault.__doc__ or "").strip(".")
    return (
        f"| {name} | {noticed:.2f} s | {reason} | {back - over:.2f} s | {max(0, lost):.0f} "
        f"| {fps:.1f} frames a second, longest gap {max(gaps[5:]):.2f} s |"
    )


def wait(condition: Callable[[], bool], until: float | None = None) -> float:
    """Wait for it, or until a time; returns the time."""
    until = until or time.monotonic() + 120
    while not condition():
        if time.monotonic() > until:
            break
        time.sleep(0.002)
    return time.monotonic()


def nothing() -> None:
    """The fault is over by itself."""


def killed(stack: ExitStack) -> tuple[str, Act, Act]:
    """RTSP server killed, restarted after 8 s."""
    rtsp = Rtsp(stack, USER)
    return rtsp.address, rtsp.server.kill, lambda: rtsp.server.start(USER)


def paused(stack: ExitStack) -> tuple[str, Act, Act]:
    """RTSP server stopped (SIGSTOP) for 8 s."""
    rtsp = Rtsp(stack, USER)
    send = rtsp.server.send
    return rtsp.address, lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT)


def silent(stack: ExitStack) -> tuple[str, Act, Act]:
    """RTSP server replaced for 8 s by one that accepts and says nothing."""
    rtsp = Rtsp(stack, USER)
    listeners: list[socket.socket] = []

    def begin() -> None:
        rtsp.server.kill()
        listeners.append(socket.create_server(("127.0.0.1", rtsp.server.port)))

    def end() -> None:
        listeners[0].close()
        rtsp.server.start(USER)

    return rtsp.address, begin, end


def password(stack: ExitStack) -> tuple[str, Act, Act]:
    """RTSP server restarted with another password for 8 s."""
    rtsp = Rtsp(stack, USER)
    return rtsp.address, lambda: rtsp.again("user=me:other"), lambda: rtsp.again(USER)


def resolution(stack: ExitStack) -> tuple[str, Act, Act]:
    """RTSP server restarted at once with another resolution."""
    rtsp = Rtsp(stack, USER)
    return rtsp.address, lambda: rtsp.again(USER, "size=160x128"), nothing


def trickle(stack: ExitStack) -> tuple[str, Act, Act]:
    """RTSP, a byte a second for 8 s."""
    rtsp = Rtsp(stack, "noise=1")
    proxy = rtsp.proxy
    return (
        rtsp.through,
        lambda: setattr(proxy, "trickle", 1.0),
        lambda: setattr(proxy, "trickle", 0.0),
    )


def one_packet(stack: ExitStack) -> tuple[str, Act, Act]:
    """RTSP, H.264: one packet lost in the middle of a frame."""
    rtsp = Rtsp(stack, "noise=1")
    harmed: list[int] = []

    def lose(number: int, packet: bytes) -> bytes | None:
        if harmed or packet[12] & 31 != 28 or packet[13] & 0xDF != 1:
            return packet
        harmed.append(number)
        return None

    return rtsp.through, lambda: setattr(rtsp.proxy, "tamper", lose), nothing


def flips(stack: ExitStack) -> tuple[str, Act, Act]:
    """RTSP, H.264: 40 bytes inverted in every hundredth packet for 8 s."""
    rtsp = Rtsp(stack, "noise=1")

    def flip(number: int, packet: bytes) -> bytes:
        if number % 100:
            return packet
        return packet[:40] + bytes(byte ^ 0xFF for byte in packet[40:80]) + packet[80:]

    def end() -> None:
        rtsp.proxy.tamper = lambda _, packet: packet

    return rtsp.through, lambda: setattr(rtsp.proxy, "tamper", flip), end


def http_killed(stack: ExitStack) -> tuple[str, Act, Act]:
    """Motion JPEG server killed, restarted after 8 s."""
    server = http_server(stack)
    return f"http://127.0.0.1:{server.port}/", server.kill, server.start


def http_paused(stack: ExitStack) -> tuple[str, Act, Act]:
    """Motion JPEG server stopped (SIGSTOP) for 8 s."""
    server = http_server(stack)
    return (
        f"http://127.0.0.1:{server.port}/",
        lambda: server.send(signal.SIGSTOP),
        lambda: server.send(signal.SIGCONT),
    )


def http_server(stack: ExitStack) -> Server:
    """A running one."""
    server = Server(sys.executable, "camera_http_server.py")
    server.start()
    stack.callback(server.kill)
    return server


def trial_stall(stack: ExitStack) -> tuple[str, Act, Act]:
    """test://, reading blocks for 8 s."""
    return "test://washer?size=256&rate=15&fault=stall@6+8", wait_for(6), nothing


def trial_refuse(stack: ExitStack) -> tuple[str, Act, Act]:
    """test://, breaks off and refuses for 8 s."""
    fault = "disconnect@6+0.5,refuse@6+8"
    return f"test://washer?size=256&rate=15&fault={fault}", wait_for(6), nothing


def wait_for(seconds: float) -> Act:
    """Wait until so long after the fault was set up, which is when the first attempt begins."""
    until = time.monotonic() + seconds
    return lambda: time.sleep(max(0.0, until - time.monotonic()))


if __name__ == "__main__":
    main()
