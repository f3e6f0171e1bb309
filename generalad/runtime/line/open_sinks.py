"""Sinks as tables of a TOML file or options of the command line describe them.

A kind of sink is one class here: its keys with their types and defaults, and how it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from generalad.errors import ConfigError, GadError
from generalad.progress import Log
from generalad.runtime.names import digest
from generalad.runtime.sinks.json_csv import Csv, JsonLines
from generalad.runtime.sinks.sink import Sink

STATE = Path("gad-state")
"""Folder of what must outlive the process, where nothing else is said."""


class SinkTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """What every kind of sink can do; the key `type` says which one it is."""

    def open(self, here: Path, state: Path, log: Log) -> Sink:
        """The sink, which opens nothing yet; arguments as in `SinkEntry` and `open_outputs`."""
        raise NotImplementedError


class JsonTable(SinkTable, frozen=True, tag="json"):
    """JSON lines; the file "-" is stdout."""

    file: str

    def open(self, here: Path, state: Path, log: Log) -> Sink:
        """See `SinkTable`."""
        return JsonLines(self.file if self.file == "-" else here / self.file, log=log)


class CsvTable(SinkTable, frozen=True, tag="csv"):
    """A line an image."""

    file: str

    def open(self, here: Path, state: Path, log: Log) -> Sink:
        """See `SinkTable`."""
        return Csv(here / self.file, log=log)


class OverlaysTable(SinkTable, frozen=True, tag="overlays"):
    """Images with their maps over them."""

    folder: str

    def open(self, here: Path, state: Path, log: Log) -> Sink:
        """See `SinkTable`."""
        from generalad.runtime.sinks.overlays import Overlays

        return Overlays(here / self.folder, log=log)


class VideoTable(SinkTable, frozen=True, tag="video"):
    """The same as a video; `rate` is in frames a second, None for that of the source."""

    file: str
    rate: float | None = None

    def open(self, here: Path, state: Path, log: Log) -> Sink:
        """See `SinkTable`."""
        from generalad.runtime.sinks.video import AnnotatedVideo

        return AnnotatedVideo(here / self.file, rate=self.rate, log=log)


class EventsTable(SinkTable, frozen=True, tag="events"):
    """A folder for each event; None keeps for ever."""

    folder: str
    max_gb: float = 1.0
    max_days: float | None = None

    def open(self, here: Path, state: Path, log: Log) -> Sink:
        """See `SinkTable`."""
        from generalad.runtime.sinks.event_folder import EventFolder

        return EventFolder(
            here / self.folder,
            max_bytes=int(self.max_gb * 1e9),
            max_age=None if self.max_days is None else self.max_days * 86400,
            log=log,
        )


class SamplesTable(SinkTable, frozen=True, tag="samples"):
    """Normal images, `keep` of each stream, one in `every` seconds at most."""

    folder: str
    keep: int = 200
    every: float = 60.0

    def open(self, here: Path, state: Path, log: Log) -> Sink:
        """See `SinkTable`."""
        from generalad.runtime.sinks.samples import Samples

        return Samples(here / self.folder, keep=self.keep, every=self.every, log=log)


class SendTable(SinkTable, frozen=True, tag="send"):
    """Messages to a broker or web server; None of `send` is all kinds but results."""

    address: str
    token: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    send: tuple[str, ...] | None = None
    per_minute: float | None = None

    def open(self, here: Path, state: Path, log: Log) -> Sink:
        """See `SinkTable`."""
        # Loaded only where something is sent: SQLite and what opens connections take time.
        from generalad.runtime.delivery.sink import NOTIFICATIONS, NetworkSink, open_transport
        from generalad.runtime.secrets import redacted

        def path(written: str | None) -> Path | None:
            return None if written is None else here / written

        transport = open_transport(
            self.address,
            token=self.token,
            ca=path(self.ca),
            certificate=path(self.certificate),
            key=path(self.key),
        )
        return NetworkSink(
            transport,
            # Another password is the same receiver.
            queue=state / f"queue-{digest(redacted(self.address))}.sqlite",
            send=NOTIFICATIONS if self.send is None else self.send,  # type: ignore[arg-type]
            per_minute=self.per_minute,
            log=log,
        )


AnySinkTable = (
    JsonTable | CsvTable | OverlaysTable | VideoTable | EventsTable | SamplesTable | SendTable
)


class SinkEntry(NamedTuple):
    """A sink that is asked for.

    Attributes:
        table: what is said of it.
        here: folder that its paths are relative to.
        where: how messages name it, such as "[[sink]] number 2" or "--csv".
    """

    table: SinkTable
    here: Path
    where: str


def of_option(option: str, place: str) -> SinkEntry:
    """What an option of `gad infer` asks for, such as --csv with its file: the type's first key."""
    kinds: dict[str, Callable[[str], SinkTable]] = {
        "json": JsonTable,
        "csv": CsvTable,
        "overlays": OverlaysTable,
        "video": VideoTable,
        "events": EventsTable,
        "samples": SamplesTable,
        "send": SendTable,
    }
    return SinkEntry(kinds[option](place), Path(), f"--{option}")


def open_outputs(entries: Sequence[SinkEntry], *, state: Path | None, log: Log) -> list[Sink]:
    """The sinks that are asked for, in their order. Nothing is opened yet.

    Args:
        entries: from `read_line` or `of_option`.
        state: folder for queues; None is `STATE`.
        log: told in one line of what goes wrong with a sink during a run.

    Raises:
        ConfigError: a value that cannot be, or packages for a sink that are not installed.
    """
    return [_open(entry, state or STATE, log) for entry in entries]


def _open(entry: SinkEntry, state: Path, log: Log) -> Sink:
    try:
        return entry.table.open(entry.here, state, log)
    except GadError as error:
        if type(error).exit_code != ConfigError.exit_code:
            raise
        raise ConfigError(f"{entry.where}: {error.message}", remedy=error.remedy) from error
