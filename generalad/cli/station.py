"""`gad station run`, `check` and `map`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from generalad.cli.options import Argument, Json, Option
from generalad.errors import UsageError

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
    from generalad.runtime.station.station_file import open_station
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

    station = open_station(found, on_notification=tell, on_problem=display.say)
    collect_garbage()
    number = station.run(observers=observers)
    return 0 if number is None else 128 + number


def check(
    file: File,
    parts: Annotated[int, Option("How many are inspected.", least=1)] = 100,
    wait: Annotated[
        float, Option("Seconds for the first trigger, and from one to the next.", least=0.1)
    ] = 60.0,
    json: Json = False,
) -> int:
    """Try every part of a station in turn, and print a table to sign.

    Recipes are loaded and pass their self-test, cameras open and hold their settings, PLCs answer,
    a trigger arrives, and the time from trigger to verdict is measured over some parts. Where no
    trigger comes and the cameras are told by software, the check triggers them itself, and says so.
    Nothing is written to the sinks. The exit code is 3 if anything is not as it is to be.

    Examples:
        gad station check line.toml
        gad station check line.toml --parts 1000 --json > check.json
    """
    from generalad.cli.console import console, print_json, progress
    from generalad.cli.station_table import table_of
    from generalad.runtime.station.check import check_station

    screen, found = console(), _read(file)
    with progress(screen) as shown:
        checked = check_station(
            found,
            parts=parts,
            wait=wait,
            progress=shown,
            log=lambda line: screen.print(line, style="dim", markup=False),
        )
    facts = facts_of(file, found)
    screen.print(table_of(facts, checked))
    print_json({**facts, **checked.to_dict()}, wanted=json)
    return 0 if checked.ok else 3


def facts_of(file: Path, found: StationLine) -> dict[str, str]:
    """What a signature is for: station, date, version, and the files by their hashes."""
    import time

    from generalad.files import sha256_of_file
    from generalad.version import __version__

    facts = {
        "station": found.table.station.name,
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "version": __version__,
        str(file): f"sha256 {sha256_of_file(file)[:16]}",
    }
    for path in found.recipes.values():
        if path.is_file():
            facts[str(path)] = f"sha256 {sha256_of_file(path)[:16]}"
    return facts


def map(
    file: Annotated[
        Path | None, Argument("The station as TOML; without it, every kind is shown.")
    ] = None,
    format: Annotated[Literal["table", "markdown", "json"], Option("How it is written.")] = "table",
) -> None:
    """Print the map of registers and nodes, for whoever programs the PLC.

    Examples:
        gad station map line.toml
        gad station map --format markdown > map.md
    """
    from generalad.runtime.station.plc.map_text import map_text

    tables = () if file is None else _read(file).table.plc
    if file is not None and not tables:
        raise UsageError(f"{file} has no [[plc]]", remedy="leave the file out to see every kind")
    sys.stdout.write(map_text(tables, format) + "\n")


def _read(file: Path) -> StationLine:
    from generalad.runtime.station.station_file import read_station

    service = os.environ.get("STATE_DIRECTORY")  # as systemd gives it
    return read_station(file, state=Path(service) if service else None)
