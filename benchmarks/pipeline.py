"""How much of the bare network's speed is left from end to end, and what a live stream adds.

    python benchmarks/pipeline.py model.onnx

Prints, from one process that keeps memory as `gad infer` does, for sessions as it opens them
(`spinning=False`):
  1. images a second of `infer` on a 1080p video, of `Session.run` alone, and of reading and
     resizing alone, in turn, for one thread of the network and for all; the share is that of the
     slower of the two. With all threads they want the same cores.
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
from pathlib import Path

import cv2
import numpy as np

from generalad.preprocess import resize
from generalad.runtime import Result, Session, infer, open_session
from generalad.runtime.cameras import open_live
from generalad.runtime.malloc import keep_freed_memory
from generalad.runtime.videos.video_file import VideoFile
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
        video = make_video(Path(folder) / "1080p.mp4")
        for threads in (1, None):
            with open_session(given.artifact, threads=threads, spinning=False) as session:
                print_share(session, video, threads)
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


def print_share(session: Session, video: Path, threads: int | None) -> None:
    """End to end over the slower of network and reading, measured in turn."""
    size = session.spec.image_size
    pixels = np.zeros((1, *size, 3), np.uint8)
    speeds: dict[str, list[float]] = {"network": [], "reading": [], "end to end": []}
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(FRAMES):
            session.run(pixels)
        speeds["network"].append(FRAMES / (time.perf_counter() - began))
        began = time.perf_counter()
        for frame in VideoFile(video):
            assert frame.image is not None
            resize(frame.image, size)
        speeds["reading"].append(FRAMES / (time.perf_counter() - began))
        summary = infer(session, [str(video)])
        assert summary.processed == FRAMES
        speeds["end to end"].append(summary.images_per_second)
    rounds = zip(*speeds.values(), strict=True)
    share = statistics.median(whole / min(bare, read) for bare, read, whole in rounds)
    shown = {name: round(statistics.median(values), 1) for name, values in speeds.items()}
    slower = min(("network", "reading"), key=shown.__getitem__)
    print(f"1080p video, {threads or 'all'} threads: images/s {shown}, {share:.3f} of the {slower}")


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
