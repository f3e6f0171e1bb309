"""`Line`: a production line as a TOML file says it: streams, sinks, and how they run.

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

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from generalad.areas import Areas
from generalad.decision import Rule
from generalad.errors import ConfigError, GadError
from generalad.runtime.addresses import is_live_address, open_sources
from generalad.runtime.line.faults import FROZEN_AFTER
from generalad.runtime.line.stream import Stream
from generalad.runtime.line.toml_table import Table, load_table
from generalad.runtime.sources import WATCH, LiveSource, Source

if TYPE_CHECKING:
    from generalad.runtime.line.events import EventRule


class Line(NamedTuple):
    """What runs on a line; None is what was not said.

    Attributes:
        artifact: path of the exported file.
        streams: what is read, and how it is judged.
        sinks: tables of where results go, for `generalad.runtime.line.open_sinks`.
        batch: images a run of the network.
        max_wait: seconds that a batch may wait to fill.
        threads: CPU threads of the network.
        device: see `open_session`.
        metrics: port, or address and port, to serve metrics and health on.
        state: folder for what must outlive the process.
    """

    artifact: str | None = None
    streams: tuple[Stream, ...] = ()
    sinks: tuple[Table, ...] = ()
    batch: int | None = None
    max_wait: float | None = None
    threads: int | None = None
    device: str | None = None
    metrics: str | None = None
    state: Path | None = None


def read_line(file: Path, *, state: Path | None = None) -> Line:
    """Read a line's TOML file. Paths in it are relative to its folder.

    Args:
        file: which one.
        state: wins over the one in the file.

    Raises:
        ConfigError: no TOML, an unknown key, or a value that cannot be.
        GadError: a source that cannot be, as in `open_sources`.
    """
    table, here = load_table(file), file.parent
    artifact = table.take("artifact", str)
    written = table.take("state", str)
    state = state or (None if written is None else here / written)
    wait = table.take("max_wait_ms", float)
    streams = [stream for item in table.tables("stream") for stream in _streams(item, here, state)]
    line = Line(
        artifact=None if artifact is None else str(here / artifact),
        streams=tuple(streams),
        sinks=tuple(table.tables("sink")),
        batch=table.take("batch", int),
        max_wait=None if wait is None else wait / 1000,
        threads=table.take("threads", int),
        device=table.take("device", str),
        metrics=table.take("metrics", str),
        state=state,
    )
    table.finish()
    return line


def _streams(table: Table, here: Path, state: Path | None) -> Sequence[Stream]:
    """The streams of one table: several where a pattern matches several videos."""
    try:
        sources = _sources(table, here, state)
        rule = Rule(
            threshold=table.take("threshold", float),
            areas=_areas(table),
            min_area=table.take("min_area", float, 0.0),
        )
        live = all(isinstance(source, LiveSource) for source in sources)
        event = _event_rule(table, live=live)
        faults = table.take("camera_faults", bool, live)
        frozen_after = table.take("frozen_after", float, FROZEN_AFTER)
        drift = table.take("drift", bool, live)
        table.finish()
    except ConfigError:
        raise
    except GadError as error:
        raise ConfigError(f"{table.where}: {error.message}", remedy=error.remedy) from error
    return [
        Stream(
            source,
            rule,
            events=event,
            camera_faults=faults,
            frozen_after=frozen_after,
            drift=drift,
        )
        for source in sources
    ]


def _sources(table: Table, here: Path, state: Path | None) -> Sequence[Source]:
    address, name = table.need("source", str), table.take("name", str)
    real_time = table.take("real_time", bool, False)
    stall_after = table.take("stall_after", float)
    if not (real_time or is_live_address(address)):
        if name is not None or stall_after is not None:
            raise ConfigError(f"{table.where}: name and stall_after are for live sources")
        return open_sources([str(here / address)])
    from generalad.runtime.cameras.open import open_live

    if address.startswith(WATCH):
        address = WATCH + str(here / address[len(WATCH) :]) if address != WATCH else address
    elif real_time:
        address = str(here / address)
    return [open_live(address, name=name, stall_after=stall_after or 5.0, state=state)]


def _areas(table: Table) -> Areas | None:
    inspect: list[object] = table.take("inspect", list) or []
    ignore: list[object] = table.take("ignore", list) or []
    if not inspect and not ignore:
        return None
    return Areas(tuple(inspect), tuple(ignore))  # type: ignore[arg-type]  # it checks them


def _event_rule(table: Table, *, live: bool) -> EventRule | None:
    from generalad.runtime.line.events import EventRule  # not for a run without a line's file

    values, usual = table.take("event", dict), EventRule()
    if values is None:
        return usual if live else None
    inner = Table(values, f"{table.where}: event")
    rule = dataclasses.replace(
        usual,
        frames=inner.take("frames", int, usual.frames),
        of=inner.take("of", int, max(usual.of, values.get("frames", 1))),
        release=inner.take("release", float, usual.release),
    )
    inner.finish()
    return rule
