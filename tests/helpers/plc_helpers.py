"""What the tests of PLCs share: a station that answers, a PLC's program, and its memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from generalad.runtime.backoff import Backoff
from generalad.runtime.delivery.transport import Unavailable
from generalad.runtime.station.plc.interface import Accepted, Refused
from generalad.runtime.station.plc.registers import command_registers, station_values
from generalad.runtime.station.plc.signals import COMMANDS, NO_COMMANDS, STATION, Value, Values
from generalad.runtime.station.verdict import StationState, Verdict

HOST = "127.0.0.1"
PATIENCE = 30.0  # real seconds until a test gives up; never reached by a test that passes
QUICK = Backoff(first=0.01, cap=0.05, jitter=0.5, good_after=1.0)
READY = StationState(ready=True, recipe="washer", model="washer-2", started=3)


def verdict(id: int, **changes: Any) -> Verdict:
    """Pass and reject in turn; score, milliseconds and part tell which id they belong to."""
    outcome = "pass" if id % 2 else "reject"
    values: dict[str, Any] = {
        "part": f"part {id}",
        "outcome": outcome,
        "reason": None,
        "detail": "",
        "counts_as": outcome,
        "score": 1 / (1 + id),
        "triggered": 0.0,
        "decided": id / 1000,
        "recipe": "washer",
    }
    return Verdict(id=id, **{**values, **changes})


def until(condition: Callable[[], object], what: str = "") -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited too long {what}"
        time.sleep(0.002)


class FakeStation:
    """Gives each trigger the next id, and remembers what it was asked."""

    def __init__(self, first: int = 1) -> None:
        self.next = first
        self.refuse: Refused | None = None
        self.parts: dict[int, str | None] = {}
        self.acknowledged: list[int] = []
        self.recipes: list[str] = []
        self.asked = threading.Event()

    def trigger(self, part: str | None) -> Accepted | Refused:
        if self.refuse is not None:
            return self.refuse
        id, self.next = self.next, self.next + 1
        self.parts[id] = part
        self.asked.set()
        return Accepted(id)

    def select_recipe(self, name: str) -> None:
        self.recipes.append(name)
        self.asked.set()

    def acknowledge(self, id: int) -> None:
        self.acknowledged.append(id)
        self.asked.set()


class PlcProgram:
    """The program of docs/plc.md, scan by scan. `last` outlives a restart, nothing else does."""

    def __init__(self) -> None:
        self.last = 0
        self.taken: list[dict[str, Value]] = []
        self.answers: list[tuple[str, int]] = []
        self.to_trigger: list[str] = []
        self.restart()

    def restart(self) -> None:
        self.commands: dict[str, Value] = dict(NO_COMMANDS)
        self.first = True

    def scan(self, station: Values) -> dict[str, Value]:
        """One scan: what the station says, to what the PLC says."""
        commands = self.commands
        if self.first:  # say once that nothing is asked
            self.first = False
            return commands
        if not station["ResultValid"]:
            commands["ResultAcknowledged"] = False
        elif not commands["ResultAcknowledged"]:
            if int(station["ResultId"]) > self.last:
                self.taken.append(dict(station))
                self.last = int(station["ResultId"])
            commands["ResultAcknowledged"] = True
        if commands["Trigger"]:
            if station["TriggerAcknowledged"]:
                self.answers.append((str(commands["TriggerPart"]), int(station["TriggerId"])))
                commands["Trigger"] = False
        elif self.to_trigger and station["Ready"] and not station["TriggerAcknowledged"]:
            commands["TriggerPart"] = self.to_trigger.pop(0)
            commands["Trigger"] = True
        commands["StartAcknowledged"] = station["StartedAnew"]
        return commands


class PlcMemory:
    """See `Memory`: registers of a PLC, and requests that fail as `plan` says.

    An item of `plan` a request: "lost" before it was done, "unanswered" after it, or None.
    """

    name = "fake://plc"

    def __init__(self) -> None:
        self.words = [0] * COMMANDS.stop
        self.plan: list[str | None] = []
        self.torn: Callable[[], None] = lambda: None
        self.cut = 0
        self.connects = 0

    def station(self) -> dict[str, Value]:
        return station_values(self.words[: len(STATION)], "big")

    def command(self, values: Values) -> None:
        self.words[COMMANDS.start :] = command_registers(values, "big")

    def connect(self) -> None:
        self.connects += 1

    def read(self, register: int, count: int) -> list[int]:
        self._fail(lambda: None)
        return self.words[register : register + count]

    def write(self, register: int, words: list[int]) -> None:
        def apply() -> None:
            cut = self.cut % len(words)
            self.words[register : register + cut] = words[:cut]
            self.torn()  # a PLC that scans while a block comes in, in ascending order
            self.words[register + cut : register + len(words)] = words[cut:]

        self._fail(apply)

    def close(self) -> None:
        return

    def _fail(self, work: Callable[[], None]) -> None:
        planned = self.plan.pop(0) if self.plan else None
        if planned == "lost":
            raise Unavailable("lost")
        work()
        if planned == "unanswered":
            raise Unavailable("unanswered")


def check_taken(program: PlcProgram, ids: list[int]) -> None:
    """Each verdict once, in order, and nothing of one with another."""
    assert [values["ResultId"] for values in program.taken] == ids
    for values in program.taken:
        id = int(values["ResultId"])
        expected = verdict(id)
        assert values["ResultIdEnd"] == id
        assert values["Outcome"] == (1 if expected.outcome == "pass" else 2)
        assert values["CountsAs"] == values["Outcome"]
        assert abs(float(values["Score"]) - 1 / (1 + id)) < 1e-6
        assert values["ResultPart"] == f"part {id}"
