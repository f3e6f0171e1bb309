"""What a station's file says that cannot be, or cannot be together, before anything is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from generalad.errors import ConfigError, GadError
from generalad.runtime.station.file_tables import StationTable
from generalad.runtime.station.plc.open_plcs import OpcUaTable
from generalad.runtime.station.plc.registers import text_fits
from generalad.runtime.station.plc.signals import LETTERS

_MOST_MS = 3_600_000.0
"""Of a deadline: nothing in a line waits longer, and clocks have an end."""

_MOST = 1000
"""Parts at once, and pictures of a part: each is in memory."""

_ANY_HOST = ("", "0.0.0.0", "::")


class _Listening(NamedTuple):
    where: str
    host: str
    port: int


def check_table(table: StationTable) -> None:
    """Raises ConfigError, which names the key."""
    _check_numbers(table)
    _check_recipes(table)
    _check_ports(table)


def _check_numbers(table: StationTable) -> None:
    parts = table.station
    numbers: list[tuple[str, float, float, float]] = [
        ("[station]: deadline_ms", parts.deadline_ms, 1, _MOST_MS),
        ("[station]: window_ms", parts.window_ms, 1, _MOST_MS),
        ("[station]: at_once", parts.at_once, 1, _MOST),
    ]
    if isinstance(table.batch, int):
        numbers.append(("batch", table.batch, 1, _MOST))
    for number, stream in enumerate(table.stream, start=1):
        numbers.append((f"[[stream]] number {number}: pictures", stream.pictures, 1, _MOST))
    for where, value, least, most in numbers:
        if not least <= value <= most:
            unit = " milliseconds" if where.endswith("_ms") else ""
            raise ConfigError(f"{where}: expected {least:g} to {most:.0f}{unit}, found {value:g}")


def _check_recipes(table: StationTable) -> None:
    """Over registers a PLC could not ask for such a name."""
    if all(isinstance(plc, OpcUaTable) for plc in table.plc):
        return
    for number, recipe in enumerate(table.recipe, start=1):
        if not text_fits(recipe.name):
            raise ConfigError(
                f"[[recipe]] number {number}: no PLC can ask for {recipe.name!r} over registers",
                remedy=f"at most {LETTERS} letters of ASCII, and no spaces at the ends",
            )


def _check_ports(table: StationTable) -> None:
    """One process listens at each port once."""
    taken: list[_Listening] = []
    for one in _listening(table):
        for other in taken:
            shared = one.host == other.host or one.host in _ANY_HOST or other.host in _ANY_HOST
            if one.port == other.port and shared and one.port > 0:
                raise ConfigError(
                    f"{one.where}: port {one.port} is that of {other.where}",
                    remedy="give each a port of its own",
                )
        taken.append(one)


def _listening(table: StationTable) -> Iterator[_Listening]:
    """Where this station would listen; addresses that are none are said when they are opened."""
    for where, address in (
        ("metrics", table.metrics),
        ("[trigger]", getattr(table.trigger, "address", None)),
    ):
        host, _, port = (address or "").rpartition(":")
        if port.isdecimal() and "/" not in host:
            yield _Listening(where, _host(host or "127.0.0.1"), int(port))
    for number, plc in enumerate(table.plc, start=1):
        with contextlib.suppress(GadError):
            kind, *server = plc.memory()[0]
            if kind == "port":
                yield _Listening(
                    f"[[plc]] number {number}", _host(str(server[0])), int(str(server[1]))
                )


def _host(name: str) -> str:
    name = name.strip("[]").lower()
    return "127.0.0.1" if name == "localhost" else name
