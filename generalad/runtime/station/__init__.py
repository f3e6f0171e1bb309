"""A station inspects parts: a trigger, its pictures, one verdict for each, and the PLC.

    with open_station(read_station(Path("line.toml"))) as station:
        verdict = station.inspect("A-1042")

`parts` is the state machine that gives each trigger exactly one verdict, in order, and `matching`
says which picture belongs to which part; neither has a thread or a clock. `coordinator` puts them
together under one lock, `journal` remembers across a kill, and `station` runs it all. `triggers`
and `plc` are how others ask, `check` is for whoever puts a station into service.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generalad.runtime.station.cameras import CameraPlan
    from generalad.runtime.station.check import Check, check_station
    from generalad.runtime.station.plan import StationPlan
    from generalad.runtime.station.station import Station
    from generalad.runtime.station.station_file import StationLine, open_station, read_station
    from generalad.runtime.station.verdict import StationState, Verdict

_HOMES = {
    "CameraPlan": "cameras",
    "Check": "check",
    "Station": "station",
    "StationLine": "station_file",
    "StationPlan": "plan",
    "StationState": "verdict",
    "Verdict": "verdict",
    "check_station": "check",
    "open_station": "station_file",
    "read_station": "station_file",
}

__all__ = [
    "CameraPlan",
    "Check",
    "Station",
    "StationLine",
    "StationPlan",
    "StationState",
    "Verdict",
    "check_station",
    "open_station",
    "read_station",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'generalad.runtime.station' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
