"""The options of `gad infer`, and what they say together with a line's TOML file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from generalad.errors import UsageError

if TYPE_CHECKING:
    from generalad.runtime.line.line_file import Line
    from generalad.runtime.line.open_sinks import SinkEntry, SinkTable
    from generalad.runtime.line.stream import Stream
    from generalad.runtime.sources import Source

T = TypeVar("T")

DESCRIPTION = """\
Run an artifact on images, folders, videos and cameras.

Results go to stdout as JSON lines unless an output is named, words to stderr. An image that cannot
be read is reported, the others are still done, and the exit code is 1. Cameras run until Ctrl-C.
"""

EXAMPLES = """\
examples:
  gad infer model.onnx part.png
  gad infer model.onnx incoming/ --csv results.csv --overlays marked/
  gad infer model.onnx clip.mp4 --video checked.mp4
  find . -name '*.png' | gad infer model.onnx -
  gad infer model.onnx rtsp://10.0.0.21/stream1 usb:0 --events events/
  gad infer model.onnx watch:incoming/ --json results.jsonl
  gad infer model.onnx 'test://washer?size=256&rate=10&fault=black@9+5'
  gad infer --config line.toml --metrics 9108
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
    add("artifact", type=Path, nargs="?", help="exported file, such as model.onnx")
    add(
        "sources",
        nargs="*",
        help="images, folders, videos, quoted patterns ('in/*.png'), watch:FOLDER, cameras "
        "(rtsp://, http://, usb:0), test://washer, - for a list on stdin",
    )
    add("--config", type=Path, metavar="FILE", help="a line as TOML: artifact, streams, sinks")
    _add_outputs(found)
    _add_running(found)
    return found


def _add_outputs(found: argparse.ArgumentParser) -> None:
    add = found.add_argument_group("outputs").add_argument
    add("--json", metavar="FILE", help="JSON lines; - is stdout, and what you get by default")
    add("--csv", metavar="FILE", help="one line an image")
    add("--overlays", metavar="DIR", help="images with their maps over them")
    add("--video", metavar="FILE", help="the same as a video, of one video")
    add("--events", metavar="DIR", help="a folder for each event of a camera, 1 GB at most")
    add("--samples", metavar="DIR", help="normal images to look at, for gad calibrate")
    add(
        "--send",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="events and faults to mqtt://, mqtts:// or https://; kept until they have arrived",
    )
    add("--metrics", metavar="PORT", help="serve Prometheus metrics and health, [HOST:]PORT")


def _add_running(found: argparse.ArgumentParser) -> None:
    add = found.add_argument_group("how it runs").add_argument
    add(
        "--threshold",
        type=float,
        metavar="X",
        help="raw score that is anomalous (default: the artifact's)",
    )
    add("--real-time", action="store_true", help="play videos at their own rate, like a camera")
    add("--batch", type=_positive, metavar="N", help="images a run of the network (default: 1)")
    add(
        "--max-wait",
        type=float,
        metavar="MS",
        help="a camera's image waits so long for a batch to fill (default: 10)",
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
        "--state",
        type=Path,
        metavar="DIR",
        help="what must outlive the process: undelivered messages, watched files that are done",
    )
    add(
        "--rebuild",
        action="store_true",
        help="build a TensorRT engine again from its ONNX file if it, or the machine, has changed",
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


class Plan(NamedTuple):
    """What is to run: the options over the line's file. `outputs` are for `open_outputs`."""

    artifact: Path
    sources: Sequence[Source | Stream]
    threshold: float | None
    outputs: Sequence[SinkEntry]
    live: bool
    batch: int
    max_wait: float
    threads: int | None
    device: str | None
    metrics: str | None
    state: Path | None


def plan(given: argparse.Namespace, *, to_terminal: bool) -> Plan:
    """Put options and file together; `to_terminal` says that results would go to a terminal.

    Raises:
        GadError: something is missing, or cannot be.
    """
    from generalad.runtime.pipeline.pipeline import MAX_WAIT
    from generalad.runtime.sources import LiveSource

    service = os.environ.get("STATE_DIRECTORY")  # as systemd gives it
    state = given.state or (Path(service) if service else None)
    line = _line(given.config, state)
    state = state or line.state
    artifact = given.artifact or line.artifact
    if artifact is None:
        raise UsageError("no artifact given", remedy="name one, or a --config that names one")
    sources: list[Source | Stream] = [*line.streams, *_sources(given, state)]
    if not sources:
        raise UsageError("no sources given", remedy="name files, folders, patterns or cameras")
    live = any(isinstance(getattr(item, "source", item), LiveSource) for item in sources)
    outputs = [*_outputs(given), *line.sinks]
    if not outputs and not (live and to_terminal):
        given.json = "-"
        outputs = _outputs(given)
    max_wait = None if given.max_wait is None else given.max_wait / 1000
    return Plan(
        artifact=Path(artifact),
        sources=sources,
        threshold=given.threshold,
        outputs=outputs,
        live=live,
        batch=_first(given.batch, line.batch, 1),
        max_wait=_first(max_wait, line.max_wait, MAX_WAIT),
        threads=given.threads or (line.threads),
        device=given.device or (line.device),
        metrics=given.metrics or (line.metrics),
        state=state,
    )


def _first(given: T | None, written: T | None, usual: T) -> T:
    return next(value for value in (given, written, usual) if value is not None)


def _line(config: Path | None, state: Path | None) -> Line:
    from generalad.runtime.line.line_file import Line, read_line

    return Line() if config is None else read_line(config, state=state)


def _sources(given: argparse.Namespace, state: Path | None) -> list[Source]:
    """The addresses of the command line."""
    from generalad.runtime.addresses import is_live_address, open_sources
    from generalad.runtime.sources import VIDEO_SUFFIXES

    found: list[Source] = []
    for address in given.sources:
        video = given.real_time and Path(address).suffix.lower() in VIDEO_SUFFIXES
        if video or is_live_address(address):
            from generalad.runtime.cameras.open import open_live

            found.append(open_live(address, state=state))
        else:
            found += open_sources([address])
    return found


def _outputs(given: argparse.Namespace) -> list[SinkEntry]:
    from generalad.runtime.line import open_sinks as sinks

    kinds: dict[str, Callable[[str], SinkTable]] = {
        "json": sinks.JsonTable,
        "csv": sinks.CsvTable,
        "overlays": sinks.OverlaysTable,
        "video": sinks.VideoTable,
        "events": sinks.EventsTable,
        "samples": sinks.SamplesTable,
        "send": sinks.SendTable,
    }
    return [
        sinks.SinkEntry(kind(place), Path(), f"--{option}")
        for option, kind in kinds.items()
        for place in _as_list(getattr(given, option))
    ]


def _as_list(value: str | list[str] | None) -> list[str]:
    """The values of an option that may be given several times, once, or not at all."""
    return value if isinstance(value, list) else [] if value is None else [value]
