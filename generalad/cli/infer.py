"""`gad infer`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generalad.cli.console import ProgressLines
from generalad.cli.infer_options import Options, Plan, plan
from generalad.cli.process import collect_garbage
from generalad.printable import one_line

if TYPE_CHECKING:
    from generalad.cli.live_table import LiveTable, LogLines
    from generalad.progress import Log, Progress
    from generalad.runtime import Result, Session, Sink, Source, Summary
    from generalad.runtime.view import Observer

SHOW_AFTER = 0.5
"""Seconds without a progress display, which takes time to load."""


def infer(given: Options) -> int:
    """Run an artifact on images, folders, videos and cameras.

    Results go to stdout as JSON lines unless an output is named, words to stderr. An image that
    cannot be read is reported, the others are still done, and the exit code is 1. Cameras run until
    Ctrl-C.

    Examples:
        gad infer model.onnx part.png
        gad infer model.onnx incoming/ --csv results.csv --overlays marked/
        gad infer model.onnx clip.mp4 --video checked.mp4
        find . -name '*.png' | gad infer model.onnx -
        gad infer model.onnx rtsp://10.0.0.21/stream1 usb:0 --events events/
        gad infer model.onnx watch:incoming/ --json results.jsonl
        gad infer model.onnx 'test://washer?size=256&rate=10&fault=black@9+5'
        gad infer --config line.toml --metrics 9108
        gad infer /share/model.onnx /share/in/ --ray auto --parquet /share/results/
    """
    if given.ray is not None or given.parquet is not None:
        from generalad.cli.scale_out import infer_on_ray

        return infer_on_ray(given)
    if given.rebuild and given.artifact is not None:
        _rebuild(given.artifact)
    opening = _open(given)
    wanted = plan(given, to_terminal=sys.stdout.isatty())
    from generalad.runtime import Interrupted
    from generalad.runtime.sources import LEFT_OUT

    collect_garbage()
    for item in wanted.sources:
        source: Any = getattr(item, "source", item)
        if any(getattr(source, kind, None) for kind in LEFT_OUT):
            from generalad.runtime.addresses import left_out_in_words

            _complain(left_out_in_words(source))
    with contextlib.ExitStack() as stack:
        artifact = wanted.artifact if opening is None else stack.enter_context(opening())
        if wanted.batch == "auto":
            wanted, artifact = _with_batch(wanted, artifact, stack)
        try:
            if wanted.live:
                summary = _run_live(wanted, artifact)
            else:
                summary = _run_files(wanted, artifact, stack)
        except Interrupted as interruption:
            stack.close()
            sys.stderr.write(in_words(interruption.summary))
            raise
    sys.stderr.write(in_words(summary))
    return 1 if summary.failed or summary.given_up else 0


def _open(given: Options) -> Callable[[], Session] | None:
    """Load the network while the rest of the program is loaded, if options alone say which."""
    if given.artifact is None or given.config is not None:
        return None
    from generalad.runtime.backends.open import open_in_background

    return open_in_background(
        given.artifact,
        threads=given.threads,
        device=given.device,
        throughput=not given.real_time and _are_many(given.sources),
    )


def _are_many(sources: Sequence[str]) -> bool:
    """Whether so many images wait already that runs side by side pay, as far as words say."""
    from generalad.image_formats.accept import READ_SUFFIXES
    from generalad.runtime.backends.open import MANY

    if not sources or not all(os.path.exists(source) for source in sources):
        return False
    suffixes = {os.path.splitext(source)[1].lower() for source in sources}
    return len(sources) >= MANY or not suffixes <= READ_SUFFIXES  # folders, videos


def _with_batch(
    wanted: Plan, artifact: Path | Session, stack: contextlib.ExitStack
) -> tuple[Plan, Session]:
    """The same with the batch that is fastest, which is said."""
    from generalad.runtime.backends.open import open_for_pipeline
    from generalad.runtime.batch_choice import batch_for
    from generalad.runtime.inference import are_many

    if isinstance(artifact, Path):
        artifact = stack.enter_context(
            open_for_pipeline(
                artifact,
                threads=wanted.threads,
                device=wanted.device,
                throughput=are_many(wanted.sources),
            )
        )
    choice = batch_for(artifact, wanted.sources, threads=wanted.threads)
    sys.stderr.write(f"{choice.in_words()}\n")
    return wanted._replace(batch=choice.size), artifact


def _run_files(wanted: Plan, artifact: Path | Session, stack: contextlib.ExitStack) -> Summary:
    from generalad.runtime import infer as run

    return run(
        artifact,
        wanted.sources,
        sinks=_sinks(wanted, _complain),
        batch_size=wanted.batch,
        threshold=wanted.threshold,
        threads=wanted.threads,
        device=wanted.device,
        observers=_telemetry(wanted),
        on_result=_Images(wanted, stack),
        on_problem=_complain,
    )


def _run_live(wanted: Plan, artifact: Path | Session) -> Summary:
    from generalad.cli.live_table import LiveTable, LogLines, in_words
    from generalad.runtime import infer as run

    # A table would be torn up by results that go to the same terminal.
    places = [output.place for output in wanted.outputs]
    to_stdout = "-" in [*places, *(getattr(sink.table, "file", "") for sink in wanted.sinks)]
    table = sys.stderr.isatty() and not (to_stdout and sys.stdout.isatty())
    display: LiveTable | LogLines = LiveTable() if table else LogLines()

    def on_result(result: Result) -> None:
        if result.error is not None:
            display.say(result.error)

    return run(
        artifact,
        wanted.sources,
        sinks=_sinks(wanted, display.say),
        batch_size=wanted.batch,
        threshold=wanted.threshold,
        max_wait=wanted.max_wait,
        threads=wanted.threads,
        device=wanted.device,
        observers=[display, *_telemetry(wanted)],
        on_result=on_result,
        on_notification=lambda notification: display.say(in_words(notification)),
        on_problem=display.say,
    )


def _sinks(wanted: Plan, log: Log) -> list[Sink]:
    from generalad.runtime import Csv, JsonLines

    _refuse_same([output.place for output in wanted.outputs if output.place != "-"])
    files: dict[str, type[JsonLines] | type[Csv]] = {"json": JsonLines, "csv": Csv}
    if not wanted.sinks and all(output.option in files for output in wanted.outputs):
        # All that a run on images needs as a rule; what reads tables takes milliseconds to load.
        return [files[option](Path(place), log=log) for option, place in wanted.outputs]
    from generalad.runtime.line.open_sinks import of_option, open_outputs

    entries = [*(of_option(*output) for output in wanted.outputs), *wanted.sinks]
    return open_outputs(entries, state=wanted.state, log=log)


def _refuse_same(places: Sequence[str]) -> None:
    """Refuse two outputs in one file: the later would replace the other at the end."""
    from generalad.errors import UsageError

    files = [os.path.realpath(place) for place in places]
    for place, file in zip(places, files, strict=True):
        if files.count(file) > 1:
            raise UsageError(
                f"{place} is named for two outputs", remedy="give each a file of its own"
            )


def _telemetry(wanted: Plan) -> list[Observer]:
    if wanted.metrics is None:
        return []
    from generalad.runtime.line.metrics_server import Telemetry

    return [Telemetry(wanted.metrics)]


def _complain(text: str) -> None:
    sys.stderr.write(f"gad: {one_line(text)}\n")


def _rebuild(artifact: Path) -> None:
    from generalad.errors import UsageError

    if artifact.suffix.lower() != ".engine":
        raise UsageError(f"--rebuild is for TensorRT engines, found {artifact.name}")
    from generalad.cli.console import console, progress
    from generalad.export.to_tensorrt import rebuild

    with progress(console()) as shown:
        why = rebuild(artifact, progress=shown)
    if why is not None:
        sys.stderr.write(f"gad: built again, because {one_line(why)}\n")


class _Images:
    """Reports failures at once; and progress, once a run takes longer."""

    def __init__(self, wanted: Plan, stack: contextlib.ExitStack) -> None:
        items: Sequence[Any] = wanted.sources  # sources, or streams that have one
        self._sources: list[Source] = [getattr(item, "source", item) for item in items]
        self._stack = stack
        self._began = time.monotonic()
        # Results that go to the same terminal are progress enough, and would tear up a bar.
        self._wanted = not (sys.stderr.isatty() and sys.stdout.isatty())
        self._to_log = not sys.stderr.isatty()
        self._shown: Progress | None = ProgressLines() if self._to_log else None
        self._total: int | None = None
        self._done = 0

    def __call__(self, result: Result) -> None:
        """Take a result."""
        self._done += 1
        if result.error is not None:
            _complain(result.error)
        if not self._wanted or time.monotonic() - self._began < SHOW_AFTER:
            return
        if self._total is None:
            self._total = sum(source.count() or 0 for source in self._sources)
        if self._to_log and self._done == self._total:
            return  # the summary follows
        if self._shown is None:
            from generalad.cli.console import console, progress

            self._shown = self._stack.enter_context(progress(console()))
        # The count of a video may be an estimate.
        self._shown("images", self._done, self._total if self._done <= self._total else 0)


def in_words(summary: Summary) -> str:
    """The summary in two or three lines."""
    faulty = f", {summary.faulty} camera faults" if summary.faulty else ""
    lines = [
        f"{summary.frames} image{'s' * (summary.frames != 1)}: {summary.anomalous} anomalous, "
        f"{summary.processed - summary.anomalous} normal, {summary.failed} failed{faulty}",
        f"{summary.seconds:.1f} s, {summary.images_per_second:.1f} images/s on {summary.backend}",
    ]
    if summary.milliseconds:
        stages = ", ".join(
            f"{name} {stage.median:.1f} ({stage.p95:.1f})"
            for name, stage in summary.milliseconds.items()
        )
        lines.append(f"ms an image, median (p95): {stages}")
    lines += [f"given up: {name}" for name in summary.given_up]
    return "\n".join(lines) + "\n"
