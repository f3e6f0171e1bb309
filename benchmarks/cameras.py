"""Industrial cameras on simulators: rate, losses, trigger to image, and faults one after the other.

    PYLON_CAMEMU=2 python benchmarks/cameras.py

Runs what is installed: EMVA's viky.cti (package genicam), pypylon's emulated cameras, and Aravis'
arv-fake-gv-camera (Debian's aravis-tools and gir1.2-aravis-0.8). Prints two tables. Everything
stays on this machine but pypylon's search, which asks all its networks; takes about two minutes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from generalad.errors import GadError
from generalad.runtime.cameras import Reader, State, TriggerFailed, try_camera
from generalad.runtime.cameras.camera import Settings

SECONDS = 10.0
SOFTWARE: Settings = {"TriggerMode": "On", "TriggerSource": "Software"}
BASLER, GIGE = "basler:0815-0001", "gige:127.0.0.1"
FAKE_GIGE = shutil.which("arv-fake-gv-camera-0.8") or ""


@contextlib.contextmanager
def fake_gige(lost: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """The camera of Aravis, which loses so many packets of a thousand."""
    process = subprocess.Popen(
        [FAKE_GIGE, "-i", "127.0.0.1", "-r", str(lost)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.5)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def viky() -> str:
    """Address of a camera in EMVA's producer."""
    found = importlib.util.find_spec("genicam")
    if found is None or found.origin is None:
        return ""
    return f"genicam:VikyTL_DEV_red?producer={Path(found.origin).with_name('viky.cti')}"


def main() -> None:
    """Print both tables."""
    print(
        "| Camera | Frames a second | Damaged | Lost | Packets lost | Trigger to image, p50 / p99 |"
    )
    print("|---|---|---|---|---|---|")
    if address := viky():
        rate("viky.cti, 400 x 400 RGBa8", address, {})
    if importlib.util.find_spec("pypylon") and os.environ.get("PYLON_CAMEMU"):
        rate("pypylon's emulation, 1024 x 1040 Mono8", BASLER, {})
        rate("the same, BayerRG12", BASLER, {"PixelFormat": "BayerRG12"})
        rate("the same, software trigger", BASLER, SOFTWARE)
    if FAKE_GIGE:
        for lost in (0, 1, 5):
            with fake_gige(lost):
                rate(f"fake GigE camera, 512 x 512 Mono8, {lost} ‰ of packets lost", GIGE, {})
        with fake_gige():
            rate("the same without losses, software trigger", GIGE, SOFTWARE)
    print("\n| Fault | Noticed after | As | Back after its end |")
    print("|---|---|---|---|")
    if address := viky():
        vendor_killed(address)
        vendor_hangs(address)
    if importlib.util.find_spec("pypylon") and os.environ.get("PYLON_CAMEMU"):
        no_picture()
    if FAKE_GIGE:
        unplugged()
        unplugged_between_triggers()


def rate(name: str, address: str, settings: Settings) -> None:
    """A row of the first table."""
    try:
        trial = try_camera(address, seconds=SECONDS, settings=settings)
    except GadError as error:
        print(f"| {name} | {error} |")
        return
    times = sorted(trial.trigger_ms)
    shown = "-"
    if times:
        shown = f"{statistics.median(times):.1f} / {times[int(0.99 * (len(times) - 1))]:.1f} ms"
        shown += (
            f", {len(trial.failed_triggers)} of {len(times) + len(trial.failed_triggers)} failed"
        )
    dropped, packets = trial.dropped, "-" if trial.packets is None else trial.packets[0]
    print(
        f"| {name} | {trial.rate:.1f} | {dropped.get('damaged', 0)} | {dropped.get('lost', 0)}"
        f" | {packets} | {shown} |",
        flush=True,
    )


def fault(
    name: str, reader: Reader, begin: Callable[[], object], end: Callable[[], object]
) -> None:
    """A row of the second table: a fault of 3 s, or until it is noticed."""
    wait(lambda: reader.status.state is State.LIVE)
    time.sleep(1)
    began = time.monotonic()
    begin()
    wait(lambda: reader.status.state is not State.LIVE)
    noticed, reason = time.monotonic() - began, reader.status.reason
    time.sleep(max(0.0, began + 3 - time.monotonic()))
    end()
    over = time.monotonic()
    wait(lambda: reader.status.state is State.LIVE)
    back = time.monotonic() - over
    print(f"| {name} | {noticed:.2f} s | {reason} | {back:.2f} s |", flush=True)


def vendor_killed(address: str) -> None:
    """The process of a producer crashes."""
    with Reader(address) as reader:
        fault("GenTL producer crashes", reader, lambda: to_producer(signal.SIGKILL), lambda: None)


def vendor_hangs(address: str) -> None:
    """The process of a producer hangs."""
    with Reader(address) as reader:
        fault("GenTL producer hangs", reader, lambda: to_producer(signal.SIGSTOP), lambda: None)


def to_producer(number: signal.Signals) -> None:
    """Send a signal to the youngest child, a producer's process."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for task in Path("/proc/self/task").glob("*/children"):
        children += task.read_text().split()
    os.kill(max(map(int, children)), number)


def unplugged() -> None:
    """A free-running network camera is killed and started again."""
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(fake_gige())
        reader = stack.enter_context(Reader(GIGE))
        fault(
            "network camera unplugged",
            reader,
            process.kill,
            lambda: stack.enter_context(fake_gige()),
        )


def unplugged_between_triggers() -> None:
    """The same while it waits for triggers."""
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(fake_gige())
        reader = stack.enter_context(Reader(GIGE, settings=SOFTWARE))
        fault(
            "network camera unplugged between triggers",
            reader,
            process.kill,
            lambda: stack.enter_context(fake_gige()),
        )


def no_picture() -> None:
    """Triggers that give no picture in time, each followed by one that must have its own."""
    with Reader(BASLER, settings=SOFTWARE) as reader:
        wait(lambda: reader.status.state is State.LIVE)
        failed, times = 0, []
        for _ in range(100):
            try:
                reader.done(reader.trigger(timeout=0.002))
            except TriggerFailed:
                failed += 1
            began = time.monotonic()
            reader.done(reader.trigger(timeout=2))
            times.append(time.monotonic() - began)
        dropped = dict(reader.status.dropped)
    print(
        f"| trigger without picture within 2 ms, {failed} of 100 | at once | the trigger fails |"
        f" next picture {statistics.median(times) * 1000:.0f} ms, at most"
        f" {max(times) * 1000:.0f} ms; other pictures {dropped or 0} |",
        flush=True,
    )


def wait(condition: Callable[[], bool]) -> None:
    """Until something is true, a minute at most."""
    until = time.monotonic() + 60
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)


if __name__ == "__main__":
    main()
