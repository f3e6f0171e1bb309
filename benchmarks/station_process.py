"""The station under test of `station.py`, as a process: a station's file, cameras of the test bed.

    python benchmarks/station_process.py line.toml '{"top": ["line", 40001], ...}'

A camera is a socket of the bed, which sends its pictures; everything else is what `gad station run`
runs. A line "clock SECONDS" on stdin moves the clock of the machine, as far as this process sees.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.runtime.cameras.camera import (
    LOST,
    CameraLost,
    DamagedFrame,
    NoPicture,
    NothingYet,
)
from generalad.runtime.cameras.camera_source import CameraSource
from generalad.runtime.line.stream import Stream
from generalad.runtime.station import CameraPlan, open_station, read_station

HEAD = struct.Struct("!cII")
"""Kind, height, width; a picture follows. Kinds: P picture, D damaged, L lost."""


class BedCamera:
    """One attempt at a camera of the bed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._asked: float | None = None

    def open(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), 5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._receive(1) == b"R":
            raise CameraLost("ExposureTime: expected 10 to 1000000 us, found 2000000")

    def read(self) -> NDArray[np.uint8]:
        if not select.select([self._socket], [], [], 0.02)[0]:
            if self._asked is not None and time.monotonic() > self._asked:
                self._asked = None
                raise NoPicture("no picture in time")
            raise NothingYet(armed=True)
        kind, height, width = HEAD.unpack(self._receive(HEAD.size))
        self._asked = None
        if kind == b"D":
            raise DamagedFrame("packets are missing")
        if kind == b"L":
            raise DamagedFrame("a frame was lost", dropped=LOST)
        pixels = self._receive(height * width * 3)
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)

    def trigger(self, timeout: float) -> None:
        self._asked = time.monotonic() + timeout
        self._socket.sendall(b"T")

    def close(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()

    def _receive(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._socket.settimeout(5)
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise CameraLost("unplugged")
            data += piece
        return bytes(data)


def main() -> None:
    """Run until SIGTERM."""
    found = read_station(Path(sys.argv[1]))
    cameras = [
        CameraPlan(Stream(CameraSource(factory(port), name=name)), how)
        for name, (how, port) in json.loads(sys.argv[2]).items()
    ]
    threading.Thread(target=obey, daemon=True).start()
    station = open_station(
        found._replace(cameras=tuple(cameras)),
        on_problem=lambda line: print(line, file=sys.stderr, flush=True),
    )
    station.run()


def factory(port: int) -> Any:
    return lambda: BedCamera(port)


def obey() -> None:
    """Set the clock where the bed says so."""
    real, offset = time.time, 0.0
    for line in sys.stdin:
        offset += float(line.split()[1])
        time.time = lambda offset=offset: real() + offset  # type: ignore[misc]


if __name__ == "__main__":
    main()
