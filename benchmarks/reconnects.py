"""Memory, threads and files of readers whose cameras go down again and again.

    python benchmarks/reconnects.py MINUTES [SECONDS]

A real RTSP server is killed every SECONDS (10) and started again after a fifth of that; two
cameras read it, one of them with a password that it refuses. Three `test://` sources break off in
the same rhythm. Every 10 s, and at the end, prints one line of JSON. The slope leaves out the first
fifth, in which libraries are loaded and images drawn. Needs the packages of the RTSP tests.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from camera_servers import SYSTEM_PYTHON, Server

from generalad.bench.estimates import slope
from generalad.runtime.cameras import Backoff, Reader

EVERY = 10.0  # seconds between lines
BACKOFF = Backoff(first=0.2, cap=1.0)


def main() -> None:
    """Run, print, and fail if a thread is left."""
    minutes = float(sys.argv[1])
    period = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    server = Server(SYSTEM_PYTHON, "camera_rtsp_server.py")
    server.start("user=me:right")
    readers = make_readers(server.port, minutes * 60, period)
    before = measure()
    samples = []
    try:
        for reader in readers:
            reader.start()
            threading.Thread(target=consume, args=(reader,), daemon=True).start()
        began = time.monotonic()
        next_line, next_kill = began + EVERY, began + period
        while (now := time.monotonic()) < began + minutes * 60:
            if now >= next_kill:
                server.kill()
                time.sleep(period / 5)
                server.start("user=me:right")
                next_kill += period
            if now >= next_line:
                samples.append({"seconds": round(now - began), **measure()})
                print(json.dumps({**samples[-1], **counts(readers)}), flush=True)
                next_line += EVERY
            time.sleep(0.1)
    finally:
        server.kill()
        for reader in readers:
            reader.close(timeout=30)
    kept = samples[len(samples) // 5 :]
    memory = slope([s["seconds"] / 3600 for s in kept], [s["rss_mb"] for s in kept])
    print(json.dumps({"slope_mb_per_hour": dataclasses.asdict(memory), **counts(readers)}))
    until = time.monotonic() + 30
    while threading.active_count() > 1 and time.monotonic() < until:
        time.sleep(0.1)
    print(json.dumps({"before": before, "after": measure()}))
    # Libraries keep threads of their own; Python's must be gone.
    if left := [t.name for t in threading.enumerate() if t is not threading.main_thread()]:
        sys.exit(f"threads are left: {', '.join(left)}")


def make_readers(port: int, seconds: float, period: float) -> list[Reader]:
    """Two RTSP cameras and three procedural ones."""
    times = range(1, int(seconds / period) + 1)
    faults = ",".join(f"disconnect@{number * period:g}+{period / 5:g}" for number in times)
    addresses = [f"rtsp://me:{word}@127.0.0.1:{port}/cam" for word in ("right", "wrong")]
    addresses += [f"test://washer?size=256&rate=10&seed=0&fault={faults}"] * 2
    addresses += [f"test://board?size=256&rate=10&seed=1&fault={faults}"]
    return [Reader(address, stall_after=3.0, backoff=BACKOFF) for address in addresses]


def consume(reader: Reader) -> None:
    """Take every frame."""
    for frame in reader.frames():
        reader.done(frame)


def counts(readers: list[Reader]) -> dict[str, list[int]]:
    """Of each reader; fails if its frames do not add up."""
    found = [reader.status for reader in readers]
    for status in found:
        if status.captured != status.processed + sum(status.dropped.values()) + status.in_flight:
            sys.exit(f"frames do not add up: {status}")
    return {
        "attempts": [status.attempts for status in found],
        "reconnects": [status.reconnects for status in found],
        "captured": [status.captured for status in found],
    }


def measure() -> dict[str, float]:
    """Resident memory in MB, threads and open files of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
        "threads": len(os.listdir("/proc/self/task")),
        "files": len(os.listdir("/proc/self/fd")),
    }


if __name__ == "__main__":
    main()
