"""`gad infer`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from generalad.runtime import Result, Sink, Source, Summary

SHOW_AFTER = 0.5
"""Seconds without a progress display, which takes time to load."""


def infer(
    artifact: Annotated[Path, typer.Argument(help="Exported file, such as model.onnx.")],
    sources: Annotated[
        list[str],
        typer.Argument(help="Pictures, folders, videos, or quoted patterns such as 'in/*.png'."),
    ],
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSON lines; - is stdout, and what you get by default."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="One line a picture.")] = None,
    overlays: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures with their maps over them.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same as a video, of one video.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Raw score that is anomalous; default: the artifact's.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures a run of the network.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of the network; default: all cores.")
    ] = None,
) -> int:
    """Run an artifact on pictures, folders and videos.

    Results go to stdout as JSON lines unless a file is named, words to stderr. A picture that
    cannot be read is reported, the others are still done, and the exit code is 1.
    """
    from generalad.runtime import Interrupted, open_sources
    from generalad.runtime import infer as run

    opened = open_sources(sources)
    sinks = _sinks(json, csv, overlays, video)
    with contextlib.ExitStack() as stack:
        try:
            summary = run(
                artifact,
                opened,
                sinks=sinks,
                batch_size=batch,
                threshold=threshold,
                threads=threads,
                on_result=_Display(opened, stack),
            )
        except Interrupted as interruption:
            stack.close()
            sys.stderr.write(in_words(interruption.summary))
            raise
    sys.stderr.write(in_words(summary))
    return 1 if summary.failed else 0


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
