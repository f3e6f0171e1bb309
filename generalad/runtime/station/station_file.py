"""A station as a TOML file says it: a line's file with triggers, PLCs and recipes.

    artifact = "washer.onnx"

    [station]
    deadline_ms = 500

    [trigger]
    by = "plc"

    [[plc]]
    type = "modbus-server"
    address = "0.0.0.0:502"

    [[stream]]
    name = "top"
    source = "basler:40012345"
    settings = { TriggerMode = "On", TriggerSource = "Line1" }

Every key is in docs/station.md. Reading a file opens nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from generalad.areas import Areas
from generalad.errors import ConfigError, GadError, UsageError
from generalad.progress import Log, no_log
from generalad.records import from_toml
from generalad.runtime.backends.open import open_session
from generalad.runtime.backends.session import Session
from generalad.runtime.line.line import Line
from generalad.runtime.line.line_file import line_of
from generalad.runtime.line.open_sinks import CsvTable, open_outputs
from generalad.runtime.notification import Notification
from generalad.runtime.secrets import expand
from generalad.runtime.sinks.json_csv import VerdictCsv
from generalad.runtime.sinks.sink import Sink
from generalad.runtime.sources import LiveSource
from generalad.runtime.station.cameras import CameraPlan
from generalad.runtime.station.coordinator import How
from generalad.runtime.station.file_checks import check_table
from generalad.runtime.station.file_tables import (
    AnyTriggerTable,
    CameraTable,
    EyeTable,
    HttpTable,
    MqttTable,
    PlcTriggerTable,
    StationStreamTable,
    StationTable,
)
from generalad.runtime.station.plan import StationPlan
from generalad.runtime.station.plc.interface import Plc
from generalad.runtime.station.plc.open_plcs import open_plcs
from generalad.runtime.station.station import Station
from generalad.runtime.station.triggers.http_trigger import HttpTrigger
from generalad.runtime.station.triggers.mqtt_trigger import MqttTrigger
from generalad.runtime.station.triggers.photo_eye import PhotoEye
from generalad.runtime.station.verdict import Verdict


class StationLine(NamedTuple):
    """A station's file, read.

    Attributes:
        table: as it was written.
        here: its folder.
        line: streams and sinks.
        cameras: how the streams are used.
        recipes: artifacts by name, the usual one first.
        state: folder for what must outlive the process.
    """

    table: StationTable
    here: Path
    line: Line
    cameras: tuple[CameraPlan, ...]
    recipes: Mapping[str, Path]
    state: Path

    def open_artifact(self, path: Path) -> Session:
        """An open artifact, as the station runs it."""
        # Spinning threads would take the cores from cameras and PLCs.
        table = self.table
        return open_session(path, threads=table.threads, device=table.device, spinning=False)


def read_station(file: Path, *, state: Path | None = None) -> StationLine:
    """Read a station's TOML file. Paths in it are relative to its folder.

    Args:
        file: which one.
        state: wins over the one in the file, which is `gad-state` beside it unless it says so.

    Raises:
        ConfigError: no TOML, an unknown key, or a value that cannot be.
    """
    table, here = from_toml(file, StationTable), file.parent
    if table.trigger is None:
        raise ConfigError(
            "[trigger] is missing", remedy='write [trigger] with by = "plc" or the like'
        )
    if table.batch == "auto":
        raise ConfigError('batch = "auto" is for streams; parts must not wait for others')
    check_table(table)
    line = line_of(table, here, state=state)
    cameras = []
    for number, (stream, asked) in enumerate(
        zip(line.streams, table.stream, strict=False), start=1
    ):
        where = f"[[stream]] number {number}"
        if not isinstance(stream.source, LiveSource) or asked.source.startswith("watch:"):
            raise ConfigError(f"{where}: expected a camera, found {asked.source!r}")
        if asked.event is not None:
            raise ConfigError(f"{where}: event is for streams; a part has a verdict")
        how = _how(asked, where, table.trigger)
        cameras.append(CameraPlan(dataclasses.replace(stream, events=None), how, asked.pictures))
    found = StationLine(
        table, here, line, tuple(cameras), _recipes(table, here), line.state or here / "gad-state"
    )
    _check(found)
    return found


def _how(stream: StationStreamTable, where: str, trigger: AnyTriggerTable | None) -> How:
    """How a camera takes pictures, as its settings say."""
    settings = stream.settings
    software = (
        "trigger=software" in stream.source
        if stream.source.startswith("test:")
        else (settings.get("TriggerMode") == "On" and settings.get("TriggerSource") == "Software")
    )
    if isinstance(trigger, CameraTable):
        if software:
            raise ConfigError(
                f"{where}: is triggered by software, and by nobody",
                remedy='set TriggerSource to a line, or [trigger] by = "plc" or another',
            )
        return "line"
    if isinstance(trigger, EyeTable) and stream.name == trigger.camera:
        return "free"
    return "software" if software else "line" if settings.get("TriggerMode") == "On" else "free"


def _recipes(table: StationTable, here: Path) -> dict[str, Path]:
    if (table.artifact is None) == (not table.recipe):
        raise ConfigError("expected artifact, or one [[recipe]] or several")
    if table.artifact is not None:
        return {Path(table.artifact).stem: here / table.artifact}
    recipes = {recipe.name: here / recipe.artifact for recipe in table.recipe}
    if len(recipes) < len(table.recipe) or "" in recipes:
        raise ConfigError("[[recipe]]: expected names that differ, and none that is empty")
    return recipes


def _check(found: StationLine) -> None:
    """What is wrong whatever is opened."""
    if isinstance(found.table.trigger, PlcTriggerTable) and not found.table.plc:
        raise ConfigError('[trigger]: by = "plc" needs a [[plc]]')
    try:
        _plan(found, receiver=None, eye=_eye(found, None))
    except GadError as error:
        raise ConfigError(error.message, remedy=error.remedy) from error


def open_station(
    found: StationLine,
    *,
    on_verdict: Callable[[Verdict], None] | None = None,
    on_notification: Callable[[Notification], None] | None = None,
    on_problem: Log = no_log,
) -> Station:
    """The station of a file with its sinks and PLCs; the arguments are those of `Station`.

    Raises:
        ConfigError: a value that cannot be, a port that is taken, or a package that is missing.
    """
    sinks, plcs = outputs_of(found, on_problem)
    return Station(
        plan_of(found, on_problem),
        sinks=sinks,
        plcs=plcs,
        on_verdict=on_verdict,
        on_notification=on_notification,
        on_problem=on_problem,
    )


def plan_of(found: StationLine, log: Log) -> StationPlan:
    """What `Station` takes; binds the port of an HTTP trigger.

    Raises:
        ConfigError: a value that cannot be, a port that is taken, or a package that is missing.
    """
    try:
        return _plan(found, receiver=_receiver(found, log), eye=_eye(found, log))
    except GadError as error:
        raise ConfigError(f"[trigger]: {error.message}", remedy=error.remedy) from error


def outputs_of(found: StationLine, log: Log) -> tuple[list[Sink], tuple[Plc, ...]]:
    """The sinks and PLCs; nothing is opened yet. Raises ConfigError."""
    entries, here = found.line.sinks, found.here
    sinks = open_outputs(entries, state=found.state, log=log)
    for number, entry in enumerate(entries):
        if isinstance(entry.table, CsvTable):  # a line a part, not one a picture
            sinks[number] = VerdictCsv(here / entry.table.file, log=log)
    return sinks, open_plcs(found.table.plc, here, log)


def _plan(
    found: StationLine,
    *,
    receiver: HttpTrigger | MqttTrigger | None,
    eye: tuple[str, PhotoEye] | None,
) -> StationPlan:
    table, parts = found.table, found.table.station
    kinds: Sequence[tuple[type, Any]] = (
        (CameraTable, "camera"), (PlcTriggerTable, "plc"), (HttpTable, "http"),
        (MqttTable, "mqtt"), (EyeTable, "eye"),
    )  # fmt: skip
    needed = {"all": None, "any": 1}.get(str(parts.pass_when), parts.pass_when)
    return StationPlan(
        recipes=found.recipes,
        cameras=found.cameras,
        state=found.state,
        by=next(by for kind, by in kinds if isinstance(table.trigger, kind)),
        receiver=receiver,
        eye=eye,
        name=parts.name,
        deadline=parts.deadline_ms / 1000,
        needed=needed if needed is None else int(needed),
        safe=parts.safe,
        at_once=parts.at_once,
        window=parts.window_ms / 1000,
        batch=int(table.batch or 1),
        open=found.open_artifact,
    )


def _receiver(found: StationLine, log: Log) -> HttpTrigger | MqttTrigger | None:
    trigger, here = found.table.trigger, found.here

    def path(written: str | None) -> Path | None:
        return None if written is None else here / written

    if isinstance(trigger, HttpTable):
        token = None if trigger.token is None else expand(trigger.token)
        return HttpTrigger(trigger.address, token=token)
    if isinstance(trigger, MqttTable):
        return MqttTrigger(
            expand(trigger.address, quote=True),
            ca=path(trigger.ca),
            certificate=path(trigger.certificate),
            key=path(trigger.key),
            log=log,
        )
    return None


def _eye(found: StationLine, log: Log | None) -> tuple[str, PhotoEye] | None:
    trigger = found.table.trigger
    if not isinstance(trigger, EyeTable):
        return None
    from generalad.preprocess import read_image

    if not trigger.area:
        raise UsageError("photo-eye: area: expected a polygon")
    empty = None if trigger.empty is None else read_image(found.here / trigger.empty)
    eye = PhotoEye(
        Areas(inspect=trigger.area),
        enter=trigger.enter,
        leave=trigger.leave,
        longest=trigger.longest_s,
        empty=empty,
        log=log,
    )
    return trigger.camera, eye
