"""The tables of a station's file, as TOML has them; docs/station.md has every key."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from generalad.runtime.line.line_file import LineTable, StreamTable
from generalad.runtime.station.plc.open_plcs import AnyPlcTable


class PartsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of [station]; `pass_when` may be a number of pictures."""

    name: str = "station"
    deadline_ms: float = 500.0
    safe: Literal["pass", "reject"] = "reject"
    pass_when: int | Literal["all", "any"] = "all"
    at_once: int = 8
    window_ms: float = 50.0


class TriggerTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="by"):
    """The keys of [trigger]; `by` says which kind."""


class CameraTable(TriggerTable, frozen=True, tag="camera"):
    """Each picture is a part: the cameras are triggered by a signal of their own."""


class PlcTriggerTable(TriggerTable, frozen=True, tag="plc"):
    """A bit or a method of a [[plc]]."""


class HttpTable(TriggerTable, frozen=True, tag="http"):
    """POST /trigger."""

    address: str = "9200"
    token: str | None = None


class MqttTable(TriggerTable, frozen=True, tag="mqtt"):
    """A message on a topic; the files are PEM."""

    address: str
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class EyeTable(TriggerTable, frozen=True, tag="eye"):
    """A part enters an area in the pictures of a free-running camera."""

    camera: str
    area: tuple[Any, ...]
    enter: float = 0.3
    leave: float = 0.1
    longest_s: float = 10.0
    empty: str | None = None


AnyTriggerTable = CameraTable | PlcTriggerTable | HttpTable | MqttTable | EyeTable


class RecipeTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a [[recipe]]."""

    name: str
    artifact: str


class StationStreamTable(StreamTable, frozen=True, forbid_unknown_fields=True):
    """The keys of a [[stream]] of a station."""

    pictures: int = 1


class StationTable(LineTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of the whole file."""

    trigger: AnyTriggerTable | None = None
    station: PartsTable = PartsTable()
    stream: tuple[StationStreamTable, ...] = ()
    recipe: tuple[RecipeTable, ...] = ()
    plc: tuple[AnyPlcTable, ...] = ()
