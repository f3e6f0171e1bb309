"""Sinks from tables of a TOML file or from options of the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from generalad.errors import ConfigError, GadError
from generalad.progress import Log
from generalad.runtime.line.toml_table import Table
from generalad.runtime.names import digest
from generalad.runtime.sinks.json_csv import Csv, JsonLines
from generalad.runtime.sinks.sink import Sink

STATE = Path("gad-state")
"""Folder of what must outlive the process, where nothing else is said."""


def open_outputs(
    tables: Sequence[Table], *, here: Path, state: Path | None, log: Log
) -> list[Sink]:
    """The sinks that tables describe, in their order. Nothing is opened yet.

    Args:
        tables: each with a `type`, see docs/streams.md.
        here: folder that paths are relative to.
        state: folder for queues; None is `STATE`.
        log: told in one line of what goes wrong with a sink during a run.

    Raises:
        ConfigError: an unknown type or key, or a value that cannot be.
        MissingExtraError: the packages for a sink are not installed.
    """
    return [_open(table, here, state or STATE, log) for table in tables]


def _open(table: Table, here: Path, state: Path, log: Log) -> Sink:
    kind = table.need("type", str)
    if kind not in _KINDS:
        raise ConfigError(
            f"{table.where}: unknown type {kind!r}", remedy=f"choose from {', '.join(_KINDS)}"
        )
    try:
        sink = _KINDS[kind](table, here, state, log)
    except ConfigError:
        raise
    except GadError as error:
        if type(error).exit_code != ConfigError.exit_code:
            raise
        raise ConfigError(f"{table.where}: {error.message}", remedy=error.remedy) from error
    table.finish()
    return sink


def _json(table: Table, here: Path, state: Path, log: Log) -> Sink:
    file = table.need("file", str)
    return JsonLines(file if file == "-" else here / file, log=log)


def _csv(table: Table, here: Path, state: Path, log: Log) -> Sink:
    return Csv(here / table.need("file", str), log=log)


def _overlays(table: Table, here: Path, state: Path, log: Log) -> Sink:
    from generalad.runtime.sinks.overlays import Overlays

    return Overlays(here / table.need("folder", str), log=log)


def _video(table: Table, here: Path, state: Path, log: Log) -> Sink:
    from generalad.runtime.sinks.video import AnnotatedVideo

    rate = table.take("rate", float)
    return AnnotatedVideo(here / table.need("file", str), rate=rate, log=log)


def _events(table: Table, here: Path, state: Path, log: Log) -> Sink:
    from generalad.runtime.sinks.event_folder import EventFolder

    days = table.take("max_days", float)
    return EventFolder(
        here / table.need("folder", str),
        max_bytes=int(table.take("max_gb", float, 1.0) * 1e9),
        max_age=None if days is None else days * 86400,
        log=log,
    )


def _samples(table: Table, here: Path, state: Path, log: Log) -> Sink:
    from generalad.runtime.sinks.samples import Samples

    return Samples(
        here / table.need("folder", str),
        keep=table.take("keep", int, 200),
        every=table.take("every", float, 60.0),
        log=log,
    )


def _send(table: Table, here: Path, state: Path, log: Log) -> Sink:
    # Loaded only where something is sent: SQLite and what opens connections take time.
    from generalad.runtime.cameras.address import redacted
    from generalad.runtime.delivery.sink import NOTIFICATIONS, NetworkSink, open_transport

    address = table.need("address", str)
    paths = {name: table.take(name, str) for name in ("ca", "certificate", "key")}
    transport = open_transport(
        address,
        token=table.take("token", str),
        **{name: None if path is None else here / path for name, path in paths.items()},
    )
    return NetworkSink(
        transport,
        # Another password is the same receiver.
        queue=state / f"queue-{digest(redacted(address))}.sqlite",
        send=table.take("send", list, list(NOTIFICATIONS)),
        per_minute=table.take("per_minute", float),
        log=log,
    )


_KINDS: dict[str, Callable[[Table, Path, Path, Log], Sink]] = {
    "json": _json,
    "csv": _csv,
    "overlays": _overlays,
    "video": _video,
    "events": _events,
    "samples": _samples,
    "send": _send,
}
