"""`gad station run`, `check` and `map`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from generalad.cli.options import Argument, Json, Option

if TYPE_CHECKING:
    from generalad.runtime.notification import Notification
    from generalad.runtime.station.station_file import StationLine

File = Annotated[Path, Argument("The station as TOML: [station], [trigger], streams, PLCs, sinks.")]


def run(file: File) -> int:
    """Inspect parts until Ctrl-C: each trigger gets exactly one verdict.

    On a terminal a table shows the station, its cameras and PLCs; elsewhere there is a line when
    something happens. Exit code 130 after Ctrl-C and 143 after SIGTERM, which answer the parts that
    wait.

    Examples:
        gad station run line.toml
    """
    from generalad.cli.live_table import LiveTable, LogLines, in_words
    from generalad.cli.process import collect_garbage
    from generalad.runtime.station.station import Station
    from generalad.runtime.station.station_file import outputs_of, plan_of
    from generalad.runtime.view import Observer

    found = _read(file)
    to_stdout = any(getattr(sink.table, "file", "") == "-" for sink in found.line.sinks)
    table = sys.stderr.isatty() and not (to_stdout and sys.stdout.isatty())
    display: LiveTable | LogLines = LiveTable() if table else LogLines()
    observers: list[Observer] = [display]
    if found.line.metrics is not None:
        from generalad.runtime.line.metrics_server import Telemetry

        observers.append(Telemetry(found.line.metrics))

    def tell(notification: Notification) -> None:
        if notification.data.get("outcome") != "pass":
            display.say(in_words(notification))

    sinks, plcs = outputs_of(found, display.say)
    station = Station(
        plan_of(found, display.say),
        sinks=sinks,
        plcs=plcs,
        on_notification=tell,
        on_problem=display.say,
    )
    collect_garbage()
    number = station.run(observers=observers)
    return 0 if number is None else 128 + number


def map(
    file: Annotated[
        Path | None, Argument("The station as TOML; without it, every kind is shown.")
    ] = None,
    markdown: Annotated[bool, Option("As a table in Markdown.")] = False,
    json: Json = False,
) -> None:
    """Print the map of registers and nodes, for whoever programs the PLC.

    Examples:
        gad station map line.toml
        gad station map --markdown > map.md
    """
    from generalad.runtime.station.plc.map_text import map_text

    tables = () if file is None else _read(file).table.plc
    form = "json" if json else "markdown" if markdown else "table"
    sys.stdout.write(map_text(tables, form) + "\n")


def _read(file: Path) -> StationLine:
    from generalad.runtime.station.station_file import read_station

    service = os.environ.get("STATE_DIRECTORY")  # as systemd gives it
    return read_station(file, state=Path(service) if service else None)
