"""A production line as a TOML file says it: streams, sinks, and how they run.

    artifact = "board.onnx"

    [[stream]]
    name = "line-1"
    source = "rtsp://gad:${LINE1_PASSWORD}@10.0.0.21/stream1"
    event = { frames = 3, of = 5, release = 0.4 }

    [[sink]]
    type = "events"
    folder = "events"

Every key is in docs/streams.md. Reading a file opens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from generalad.areas import Areas
from generalad.decision import Rule
from generalad.errors import ConfigError, GadError, UsageError
from generalad.records import from_toml, read_toml
from generalad.runtime.addresses import DEVICES, is_live_address, open_sources
from generalad.runtime.line.line import Line
from generalad.runtime.line.open_sinks import AnySinkTable, SinkEntry
from generalad.runtime.sources import WATCH, LiveSource, Source

if TYPE_CHECKING:
    from generalad.runtime.line.events import EventRule
    from generalad.runtime.line.stream import Stream


class EventTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `event`, see `EventRule`; None of `of` is `frames`."""

    frames: int = 1
    of: int | None = None
    release: float | None = None


class StreamTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a [[stream]]; None is what suits the source."""

    source: str
    name: str | None = None
    real_time: bool = False
    stall_after: float | None = None
    settings: dict[str, bool | int | float | str] = {}
    threshold: float | None = None
    min_area: float = 0.0
    inspect: tuple[Any, ...] = ()
    ignore: tuple[Any, ...] = ()
    event: EventTable | None = None
    camera_faults: bool | None = None
    refused: Literal["tell", "reject"] = "tell"
    frozen_after: float | None = None
    drift: bool | None = None


class LineTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of the whole file."""

    artifact: str | None = None
    stream: tuple[StreamTable, ...] = ()
    sink: tuple[AnySinkTable, ...] = ()
    batch: int | Literal["auto"] | None = None
    max_wait_ms: float | None = None
    threads: int | None = None
    device: str | None = None
    metrics: str | None = None
    state: str | None = None


def read_line(file: Path, *, state: Path | None = None) -> Line:
    """Read a line's TOML file. Paths in it are relative to its folder.

    Args:
        file: which one.
        state: wins over the one in the file.

    Raises:
        ConfigError: no TOML, an unknown key, or a value that cannot be.
    """
    if "station" in read_toml(file):
        raise ConfigError(f"{file}: describes a station", remedy=f"gad station run {file}")
    return line_of(from_toml(file, LineTable), file.parent, state=state)


def line_of(table: LineTable, here: Path, *, state: Path | None) -> Line:
    """The line of a table in a file of the folder `here`; see `read_line`."""
    _check_devices(table.stream)
    state = state or (None if table.state is None else here / table.state)
    return Line(
        artifact=None if table.artifact is None else str(here / table.artifact),
        streams=tuple(
            stream
            for number, item in enumerate(table.stream, start=1)
            for stream in _streams(item, f"[[stream]] number {number}", here, state)
        ),
        sinks=tuple(
            SinkEntry(item, here, f"[[sink]] number {number}")
            for number, item in enumerate(table.sink, start=1)
        ),
        batch=table.batch,
        max_wait=None if table.max_wait_ms is None else table.max_wait_ms / 1000,
        threads=table.threads,
        device=table.device,
        metrics=table.metrics,
        state=state,
    )


def _check_devices(streams: Sequence[StreamTable]) -> None:
    """A device is opened once: the second stream would wait for it for ever."""
    first: dict[str, int] = {}
    for number, stream in enumerate(streams, start=1):
        if not stream.source.startswith(DEVICES):
            continue
        if stream.source in first:
            raise ConfigError(
                f"[[stream]] number {number}: {stream.source} is that of number"
                f" {first[stream.source]}",
                remedy="a camera has one stream; its areas are in inspect",
            )
        first[stream.source] = number


def _streams(table: StreamTable, where: str, here: Path, state: Path | None) -> Sequence[Stream]:
    """The streams of one table: several where a pattern matches several videos."""
    # Not for a run without a line's file.
    from generalad.runtime.line.faults import FROZEN_AFTER
    from generalad.runtime.line.stream import Stream

    try:
        sources = _sources(table, here, state)
        rule = Rule(threshold=table.threshold, areas=_areas(table), min_area=table.min_area)
        live = all(isinstance(source, LiveSource) for source in sources)
        events = _event_rule(table.event, live=live)
    except GadError as error:
        raise ConfigError(f"{where}: {error.message}", remedy=error.remedy) from error
    return [
        Stream(
            source,
            rule,
            events=events,
            camera_faults=live if table.camera_faults is None else table.camera_faults,
            refused=table.refused,
            frozen_after=FROZEN_AFTER if table.frozen_after is None else table.frozen_after,
            drift=live if table.drift is None else table.drift,
        )
        for source in sources
    ]


def _sources(table: StreamTable, here: Path, state: Path | None) -> Sequence[Source]:
    address = table.source
    if not (table.real_time or is_live_address(address)):
        if table.name is not None or table.stall_after is not None or table.settings:
            raise UsageError("name, stall_after and settings are for live sources")
        return open_sources([str(here / address)])
    from generalad.runtime.cameras.open import open_live

    if address.startswith(WATCH):
        address = WATCH + str(here / address[len(WATCH) :]) if address != WATCH else address
    elif table.real_time:
        address = str(here / address)
    source = open_live(
        address,
        name=table.name,
        settings=table.settings,
        stall_after=table.stall_after or 5.0,
        state=state,
    )
    return [source]


def _areas(table: StreamTable) -> Areas | None:
    return Areas(table.inspect, table.ignore) if table.inspect or table.ignore else None


def _event_rule(table: EventTable | None, *, live: bool) -> EventRule | None:
    from generalad.runtime.line.events import EventRule

    if table is None:
        return EventRule() if live else None
    return EventRule(
        frames=table.frames,
        of=max(table.frames, EventRule.of) if table.of is None else table.of,
        release=EventRule.release if table.release is None else table.release,
    )
