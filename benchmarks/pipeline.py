"""How much of what the cores allow is left from end to end, and what a live stream adds.

    python benchmarks/pipeline.py model.onnx

Prints, from one process that keeps memory as `gad infer` does:
  1. images a second of `infer` on folders of JPEG and on a 1080p video, beside what cores allow:
     processor time of the network (one thread) and of decoding and resizing, added up and divided
     among the cores; once with runs side by side, as a path is opened, and once with all
     threads in one run.
  2. the time that a live stream adds to the network's own, from capture to decision.
  3. the shares of eight streams of 10 images a second each.
Takes about three minutes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from generalad.preprocess import resize
from generalad.processor import usable_cores
from generalad.runtime import Result, Session, infer, open_session, open_sources
from generalad.runtime.backends.open import open_for_pipeline
from generalad.runtime.cameras import open_live
from generalad.runtime.malloc import keep_freed_memory
from generalad.runtime.view import Look, View
from generalad.statistics import quantile
from generalad.synth import render_part

FRAMES = 150
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each live run")
    given = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sources = {
            "JPEG of 2 megapixels": make_folder(root / "2", (1920, 1080), FRAMES),
            "JPEG of 12 megapixels": make_folder(root / "12", (4000, 3000), 60),
            "1080p video": make_video(root / "1080p.mp4"),
        }
        print_shares(given.artifact, sources)
    for count, rate in ((1, 10), (1, 25), (8, 10)):
        with open_session(given.artifact, spinning=False) as session:
            print_live(session, count, rate, given.seconds)


def make_video(path: Path) -> Path:
    """`FRAMES` frames of 1920 x 1080 with parts that move, MPEG-4 Part 2 at 25 a second."""
    rng = np.random.default_rng(0)
    part, _ = render_part("washer", rng, size=1080)
    wide = np.concatenate([part, part[:, ::-1]], axis=1)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (1920, 1080))
    for number in range(FRAMES):
        frame = np.ascontiguousarray(np.roll(wide, 8 * number, axis=1)[:, :1920])
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def make_folder(folder: Path, size: tuple[int, int], count: int) -> Path:
    """JPEG of this (width, height), quality 90."""
    folder.mkdir()
    part, _ = render_part("washer", np.random.default_rng(0), size=1000)
    image = cv2.resize(part, size, interpolation=cv2.INTER_CUBIC)
    for number in range(count):
        shown = np.roll(image, 40 * number, axis=1)[..., ::-1]
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), shown, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder


def print_shares(artifact: Path, sources: dict[str, Path]) -> None:
    """End to end over what the cores allow, measured in turns."""
    cores = usable_cores()
    with (
        open_session(artifact, threads=1, spinning=False) as alone,
        open_for_pipeline(artifact, throughput=True) as beside,
        open_for_pipeline(artifact) as together,
    ):
        size = alone.spec.image_size
        pixels = np.zeros((1, *size, 3), np.uint8)
        ways = {"runs side by side": beside, "all threads in one run": together}
        for name, source in sources.items():
            shares: dict[str, list[float]] = {way: [] for way in ways}
            speeds: dict[str, list[float]] = {way: [] for way in ways}
            allowed = []
            for _ in range(ROUNDS):
                network = processor_time(lambda: alone.run(pixels), 10)
                reading = reading_time(source, size)
                allowed.append(cores / (network + reading))
                for way, session in ways.items():
                    speeds[way].append(infer(session, [str(source)]).images_per_second)
                    shares[way].append(speeds[way][-1] / allowed[-1])
            print(
                f"{name}: network {network * 1e3:.1f} ms, decoding and resizing"
                f" {reading * 1e3:.1f} ms of one core; {cores} cores allow"
                f" {statistics.median(allowed):.1f} images/s"
            )
            for way, found in shares.items():
                print(
                    f"  {way}: {statistics.median(speeds[way]):.1f} images/s,"
                    f" {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})"
                )


def processor_time(work: Callable[[], object], count: int) -> float:
    """Seconds of all threads of this process for one piece of work."""
    work()
    began = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - began) / count


def reading_time(source: Path, size: tuple[int, int]) -> float:
    """Processor time of decoding and resizing one image of a source."""
    began, count = time.process_time(), 0
    (frames,) = open_sources([str(source)])
    for frame in frames:
        assert frame.image is not None
        resize(frame.image, size)
        count += 1
    return (time.process_time() - began) / count


class _Kept:
    """Keeps the last view."""

    view: View

    def begin(self, look: Look) -> None:
        self._look = look

    def end(self) -> None:
        self.view = self._look()


def print_live(session: Session, count: int, rate: int, seconds: float) -> None:
    """Latency and shares of `count` streams."""
    results: list[Result] = []
    stop, kept = threading.Event(), _Kept()
    threading.Timer(seconds, stop.set).start()
    infer(
        session,
        [open_live(f"test://washer?rate={rate}", name=f"line-{n}") for n in range(count)],
        batch_size=count,
        stop=stop,
        observers=[kept],
        on_result=results.append,
    )
    settled = [r for r in results if r.index > rate and r.score is not None]
    added = sorted(r.milliseconds.total - r.milliseconds.infer for r in settled)
    total = sorted(r.milliseconds.total for r in settled)
    streams = kept.view.streams
    shares = [stream.processed for stream in streams]
    dropped = sum(sum(stream.dropped.values()) for stream in streams)
    shown = [
        f"{count} streams at {rate}/s for {seconds:.0f} s",
        f"processed {min(shares)} to {max(shares)} each",
        f"{dropped} dropped of {sum(s.captured for s in streams)}",
        f"ms, median (p95): capture to decision {quantile(total, 0.5):.1f}"
        f" ({quantile(total, 0.95):.1f}), of these not in the network"
        f" {quantile(added, 0.5):.1f} ({quantile(added, 0.95):.1f})",
    ]
    print(", ".join(shown))


if __name__ == "__main__":
    main()
