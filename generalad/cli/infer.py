"""`gad infer`.

Parsed by argparse, unlike the other commands: it is called again and again on small machines, where
Typer's start-up would cost as much as the whole run of one picture.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from generalad.runtime import Result, Sink, Source, Summary

SHOW_AFTER = 0.5
"""Seconds without a progress display, which takes time to load."""

DESCRIPTION = """\
Run an artifact on pictures, folders and videos.

Results go to stdout as JSON lines unless a file is named, words to stderr. A picture that cannot be
read is reported, the others are still done, and the exit code is 1.
"""

EXAMPLES = """\
examples:
  gad infer model.onnx part.png
  gad infer model.onnx incoming/ --csv results.csv --overlays marked/
  gad infer model.onnx 'line1/**/*.jpg' --json results.jsonl
  gad infer model.onnx clip.mp4 --video checked.mp4
"""


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    found = argparse.ArgumentParser(
        prog="gad infer",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add("artifact", type=Path, help="exported file, such as model.onnx")
    add("sources", nargs="+", help="pictures, folders, videos, or quoted patterns ('in/*.png')")
    add("--json", metavar="FILE", help="JSON lines; - is stdout, and what you get by default")
    add("--csv", type=Path, metavar="FILE", help="one line a picture")
    add("--overlays", type=Path, metavar="DIR", help="pictures with their maps over them")
    add("--video", type=Path, metavar="FILE", help="the same as a video, of one video")
    add(
        "--threshold",
        type=float,
        metavar="X",
        help="raw score that is anomalous (default: the artifact's)",
    )
    add(
        "--batch",
        type=_positive,
        default=1,
        metavar="N",
        help="pictures a run of the network (default: 1)",
    )
    add(
        "--threads",
        type=_positive,
        metavar="N",
        help="CPU threads of the network (default: all cores)",
    )
    add(
        "--device",
        choices=("cpu", "cuda", "tensorrt"),
        help="used or refused (default: the best there is)",
    )
    add(
        "--rebuild",
        action="store_true",
        help="build a TensorRT engine again from its ONNX file if it, or the machine, has changed",
    )
    return found


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    given = parser().parse_args(arguments)
    if given.rebuild:
        _rebuild(given.artifact)
    from generalad.runtime import Interrupted, infer, open_sources

    opened = open_sources(given.sources)
    sinks = _sinks(given.json, given.csv, given.overlays, given.video)
    with contextlib.ExitStack() as stack:
        try:
            summary = infer(
                given.artifact,
                opened,
                sinks=sinks,
                batch_size=given.batch,
                threshold=given.threshold,
                threads=given.threads,
                device=given.device,
                on_result=_Display(opened, stack),
            )
        except Interrupted as interruption:
            stack.close()
            sys.stderr.write(in_words(interruption.summary))
            raise
    sys.stderr.write(in_words(summary))
    return 1 if summary.failed else 0


def _rebuild(artifact: Path) -> None:
    from generalad.errors import UsageError

    if artifact.suffix.lower() != ".engine":
        raise UsageError(f"--rebuild is for TensorRT engines, found {artifact.name}")
    from generalad.cli.console import console, progress
    from generalad.export.to_tensorrt import rebuild

    with progress(console()) as report:
        why = rebuild(artifact, progress=report)
    if why is not None:
        sys.stderr.write(f"gad: built again, because {why}\n")


def _sinks(
    json: str | None, csv: Path | None, overlays: Path | None, video: Path | None
) -> list[Sink]:
    from generalad.runtime import AnnotatedVideo, Csv, JsonLines, Overlays

    sinks: list[Sink] = []
    if json is not None or (csv is None and overlays is None and video is None):
        sinks.append(JsonLines(json or "-"))
    if csv is not None:
        sinks.append(Csv(csv))
    if overlays is not None:
        sinks.append(Overlays(overlays))
    if video is not None:
        sinks.append(AnnotatedVideo(video))
    return sinks


class _Display:
    """Reports failures at once, and progress on a terminal once a run takes longer."""

    def __init__(self, sources: Sequence[Source], stack: contextlib.ExitStack) -> None:
        self._sources = sources
        self._stack = stack
        self._began = time.monotonic()
        # A bar would be torn up by results that go to the same terminal.
        self._wanted = sys.stderr.isatty() and not sys.stdout.isatty()
        self._total = 0
        self._done = 0

    def __call__(self, result: Result) -> None:
        """Take a result."""
        self._done += 1
        if result.error is not None:
            sys.stderr.write(f"gad: {result.error}\n")
        if not self._wanted or time.monotonic() - self._began < SHOW_AFTER:
            return
        if not self._total:
            from generalad.cli.console import console, progress

            self._total = sum(source.count() or 0 for source in self._sources)
            self._report = self._stack.enter_context(progress(console()))
        self._report("pictures", self._done, max(self._total, self._done))


def in_words(summary: Summary) -> str:
    """The summary in two or three lines."""
    lines = [
        f"{summary.frames} pictures: {summary.anomalous} anomalous, "
        f"{summary.processed - summary.anomalous} normal, {summary.failed} failed",
        f"{summary.seconds:.1f} s, {summary.images_per_second:.1f} pictures/s on {summary.backend}",
    ]
    if summary.milliseconds:
        stages = ", ".join(
            f"{name} {stage.median:.1f} ({stage.p95:.1f})"
            for name, stage in summary.milliseconds.items()
        )
        lines.append(f"ms a picture, median (p95): {stages}")
    return "\n".join(lines) + "\n"
