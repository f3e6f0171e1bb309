"""`check_station`: tries every part of a station in turn, for whoever puts it into service.

Recipes are loaded and tested first; then the station runs as it will run, but without sinks, until
cameras, PLCs and a trigger have been seen and enough parts have been inspected.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from generalad.errors import GadError
from generalad.progress import Log, Progress, no_log, no_progress
from generalad.runtime.station.plc.interface import Plc
from generalad.runtime.station.recipes import Recipes
from generalad.runtime.station.station import Station
from generalad.runtime.station.station_file import StationLine, outputs_of, plan_of
from generalad.runtime.station.verdict import Verdict
from generalad.statistics import quantile

_OPENS_WITHIN = 20.0
"""Seconds that a camera or PLC may take to be there."""


class Row(NamedTuple):
    """One thing that was tried.

    Attributes:
        what: such as "camera top".
        ok: whether it is as it is to be; None was not tried.
        found: in words.
    """

    what: str
    ok: bool | None
    found: str


@dataclass(frozen=True)
class Check:
    """What was tried, in order.

    Attributes:
        rows: each thing.
        parts: that were inspected.
        triggered_by: "trigger", or "check" where none came and the cameras can be told to.
        milliseconds: from the trigger to a pass or reject: p50, p99, p99.9 and max; empty without.
    """

    rows: tuple[Row, ...]
    parts: int
    triggered_by: str
    milliseconds: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether everything is as it is to be."""
        return all(row.ok for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"ok": self.ok, **asdict(self), "rows": [row._asdict() for row in self.rows]}


def check_station(
    found: StationLine,
    *,
    parts: int = 100,
    wait: float = 60.0,
    progress: Progress = no_progress,
    log: Log = no_log,
) -> Check:
    """Try a station.

    Args:
        found: from `read_station`.
        parts: how many are inspected.
        wait: seconds for the first trigger, and from one to the next.
        progress: told of each stage.
        log: told what is being waited for.

    Raises:
        GadError: nothing could be tried: a port or folder is in use, or a value cannot be.
    """
    rows = _recipes(found, progress)
    if not rows[0].ok:
        left = [f"camera {plan.stream.name}" for plan in found.cameras] + ["PLC", "trigger"]
        rows += [Row(what, None, "not tried: no recipe to judge by") for what in left]
        return Check(tuple(rows), 0, "", {})
    verdicts: list[Verdict] = []
    came = threading.Condition()

    def on_verdict(verdict: Verdict) -> None:
        if verdict.reason != "restart":
            with came:
                verdicts.append(verdict)
                came.notify_all()

    _, plcs = outputs_of(found, log)
    with Station(plan_of(found, log), plcs=plcs, on_verdict=on_verdict, on_problem=log) as station:
        log("waiting for cameras and PLCs")
        rows += _cameras(station) + [_plc(plc) for plc in plcs]
        with came:
            verdicts.clear()  # what was triggered before all was there says nothing
        log(f"waiting for a trigger, at most {wait:g} s")
        with came:
            arrived = came.wait_for(lambda: bool(verdicts), wait)
        by_itself = all(plan.how != "line" for plan in found.cameras)
        rows.append(Row("trigger", arrived, "arrives" if arrived else f"none within {wait:g} s"))
        if arrived or by_itself:
            _inspect(station, verdicts, came, parts, wait, by_itself=not arrived, progress=progress)
        rows += _verdicts(verdicts, parts, found.table.station.deadline_ms)
        rows += [_taken(plc) for plc in plcs]
    triggered_by = "trigger" if arrived else "check" if verdicts else ""
    return Check(tuple(rows), len(verdicts), triggered_by, _times(verdicts))


def _recipes(found: StationLine, progress: Progress) -> list[Row]:
    streams = [camera.stream for camera in found.cameras]
    recipes = Recipes(found.recipes, streams, found.open_artifact)
    rows = []
    for number, name in enumerate(recipes.names, start=1):
        began = time.perf_counter()
        try:
            recipe = recipes.load(name)
            took = time.perf_counter() - began
            backend = recipe.session.backend
            recipes.close(recipe)
            rows.append(Row(f"recipe {name}", True, f"self-test passed, {took:.1f} s, {backend}"))
        except GadError as error:
            rows.append(Row(f"recipe {name}", False, error.message))
        progress("recipes", number, len(recipes.names))
    return rows


def _cameras(station: Station) -> list[Row]:
    rows = []
    for name, camera in station.cameras.items():
        why = _wait_while(camera.fault)
        words = why or camera.state_in_words()
        # A setting that the camera took otherwise than it was asked to is said in its state.
        rows.append(Row(f"camera {name}", not why and ", not " not in words, words))
    return rows


def _plc(plc: Plc) -> Row:
    why = _wait_while(lambda: "" if plc.status.connected else plc.status.reason)
    return Row(plc.status.name, not why, why or "answers")


def _wait_while(fault: Callable[[], str]) -> str:
    """The fault that is still there after a while, or empty."""
    until = time.monotonic() + _OPENS_WITHIN
    while (why := fault()) and time.monotonic() < until:
        time.sleep(0.02)
    return why


def _inspect(
    station: Station,
    verdicts: list[Verdict],
    came: threading.Condition,
    parts: int,
    wait: float,
    *,
    by_itself: bool,
    progress: Progress,
) -> None:
    """Go on until enough parts have a verdict, or no further one comes."""
    while (done := len(verdicts)) < parts:
        progress("parts", done, parts)
        if by_itself and isinstance(station.inspect(), str):
            return
        with came:
            if not came.wait_for(lambda done=done: len(verdicts) > done, wait):  # type: ignore[misc]
                return
    progress("parts", parts, parts)


def _verdicts(verdicts: list[Verdict], parts: int, deadline_ms: float) -> list[Row]:
    kinds = Counter(
        verdict.outcome + (f": {verdict.reason}" if verdict.reason else "") for verdict in verdicts
    )
    words = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"
    judged = all(verdict.reason is None for verdict in verdicts)
    if details := Counter(verdict.detail for verdict in verdicts if verdict.detail):
        words += f" ({details.most_common(1)[0][0]})"
    rows = [Row("verdicts", judged and len(verdicts) >= parts, f"{words}; {parts} wanted")]
    if times := _times(verdicts):
        words = ", ".join(f"{name} {value:.1f}" for name, value in times.items())
        within = times["max"] <= deadline_ms
        rows.append(Row("trigger to verdict", within, f"{words} ms; deadline {deadline_ms:g} ms"))
    return rows


def _taken(plc: Plc) -> Row:
    """Whether a PLC has taken the verdicts, which it may do a moment later."""
    why = _wait_while(lambda: f"{plc.status.waiting} not taken" if plc.status.waiting else "")
    return Row(f"{plc.status.name}: verdicts", not why, why or f"{plc.status.delivered} taken")


def _times(verdicts: list[Verdict]) -> dict[str, float]:
    ascending = sorted(verdict.milliseconds for verdict in verdicts if verdict.reason is None)
    if not ascending:
        return {}
    steps = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: quantile(ascending, step) for name, step in steps.items()}
