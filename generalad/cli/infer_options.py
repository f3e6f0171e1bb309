"""The options of `gad infer`, and what they say together with a line's TOML file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeVar

from generalad.cli.options import Argument, Option
from generalad.errors import UsageError

if TYPE_CHECKING:
    from generalad.runtime.line.line import Line
    from generalad.runtime.line.open_sinks import SinkEntry
    from generalad.runtime.line.stream import Stream
    from generalad.runtime.sources import Source

T = TypeVar("T")

OUTPUTS = "Outputs"
RUNNING = "How it runs"


class Options(NamedTuple):
    """The options of `gad infer`."""

    artifact: Annotated[Path | None, Argument("Exported file, such as model.onnx.")] = None
    sources: Annotated[
        Sequence[str],
        Argument(
            "Images, folders, videos, quoted patterns ('in/*.png'), watch:FOLDER, s3://, gs://,"
            " cameras (rtsp://, http://, usb:0, and what gad cameras lists), test://washer, - for a"
            " list on stdin."
        ),
    ] = ()
    config: Annotated[
        Path | None, Option("A line as TOML: artifact, streams, sinks.", metavar="FILE")
    ] = None
    json: Annotated[
        str | None,
        Option(
            "JSON lines; - is stdout, and what you get by default.", metavar="FILE", group=OUTPUTS
        ),
    ] = None
    csv: Annotated[str | None, Option("One line an image.", metavar="FILE", group=OUTPUTS)] = None
    overlays: Annotated[
        str | None, Option("Images with their maps over them.", metavar="DIR", group=OUTPUTS)
    ] = None
    video: Annotated[
        str | None, Option("The same as a video, of one video.", metavar="FILE", group=OUTPUTS)
    ] = None
    events: Annotated[
        str | None,
        Option("A folder for each event of a camera, 1 GB at most.", metavar="DIR", group=OUTPUTS),
    ] = None
    samples: Annotated[
        str | None,
        Option("Normal images to look at, for gad calibrate.", metavar="DIR", group=OUTPUTS),
    ] = None
    send: Annotated[
        Sequence[str],
        Option(
            "Events and faults to mqtt://, mqtts:// or https://; kept until they have arrived.",
            metavar="ADDRESS",
            group=OUTPUTS,
        ),
    ] = ()
    parquet: Annotated[
        str | None, Option("With --ray: one row an image.", metavar="DIR", group=OUTPUTS)
    ] = None
    metrics: Annotated[
        str | None,
        Option("Serve Prometheus metrics and health, [HOST:]PORT.", metavar="PORT", group=OUTPUTS),
    ] = None
    threshold: Annotated[
        float | None,
        Option("Raw score that is anomalous.", default="the artifact's", group=RUNNING),
    ] = None
    real_time: Annotated[
        bool, Option("Play videos at their own rate, like a camera.", group=RUNNING)
    ] = False
    batch: Annotated[
        int | Literal["auto"] | None,
        Option(
            "Images a run of the network; auto measures once what is fastest here.",
            default="1",
            least=1,
            group=RUNNING,
            suggestions=("auto",),
        ),
    ] = None
    max_wait: Annotated[
        float | None,
        Option(
            "A camera's image waits so long for a batch to fill.",
            metavar="MS",
            default="10",
            group=RUNNING,
        ),
    ] = None
    threads: Annotated[
        int | None,
        Option("CPU threads of the network.", default="all cores", least=1, group=RUNNING),
    ] = None
    device: Annotated[
        Literal["cpu", "cuda", "tensorrt"] | None,
        Option("Used or refused.", default="the best there is", group=RUNNING),
    ] = None
    state: Annotated[
        Path | None,
        Option(
            "What must outlive the process: undelivered messages, watched files that are done.",
            metavar="DIR",
            group=RUNNING,
        ),
    ] = None
    ray: Annotated[
        str | None,
        Option(
            "Score images on a Ray cluster: its address, auto or local. Needs --parquet.",
            metavar="ADDRESS",
            group=RUNNING,
        ),
    ] = None
    rebuild: Annotated[
        bool,
        Option(
            "Build a TensorRT engine again from its ONNX file if it, or the machine, has changed.",
            group=RUNNING,
        ),
    ] = False


class Output(NamedTuple):
    """Where results go, as an option says it: its name without dashes, and a file or the like."""

    option: str
    place: str


class Plan(NamedTuple):
    """What is to run: the options over the line's file, whose sinks come behind the outputs."""

    artifact: Path
    sources: Sequence[Source | Stream]
    threshold: float | None
    outputs: Sequence[Output]
    sinks: Sequence[SinkEntry]
    live: bool
    batch: int | Literal["auto"]
    max_wait: float
    threads: int | None
    device: str | None
    metrics: str | None
    state: Path | None


def plan(given: Options, *, to_terminal: bool) -> Plan:
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
    outputs = _outputs(given)
    if not (outputs or line.sinks or (live and to_terminal)):
        outputs = [Output("json", "-")]
    max_wait = None if given.max_wait is None else given.max_wait / 1000
    return Plan(
        artifact=Path(artifact),
        sources=sources,
        threshold=given.threshold,
        outputs=outputs,
        sinks=line.sinks,
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
    if config is None:
        from generalad.runtime.line.line import Line

        return Line()
    from generalad.runtime.line.line_file import read_line

    return read_line(config, state=state)


def _sources(given: Options, state: Path | None) -> list[Source]:
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


def _outputs(given: Options) -> list[Output]:
    options = ("json", "csv", "overlays", "video", "events", "samples", "send")
    return [
        Output(option, place) for option in options for place in _as_list(getattr(given, option))
    ]


def _as_list(value: str | Sequence[str] | None) -> Sequence[str]:
    """The values of an option that may be given several times, once, or not at all."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value
