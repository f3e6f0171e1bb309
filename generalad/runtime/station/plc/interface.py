"""`Plc`: what a station tells a PLC; `Requests`: what a PLC asks of a station.

    station ── publish(state), deliver(verdict) ──► Plc ─┐
                                                         │ Modbus, OPC UA, S7
    station ◄── trigger, select_recipe, acknowledge ── Requests

Both are called from threads of the other side and never wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from generalad.runtime.station.verdict import StationState, Verdict


class Accepted(NamedTuple):
    """A trigger that got an id, and will get one verdict.

    Attributes:
        id: 1 to 2^31 - 1.
        overrun: it came too fast; its verdict will be "no verdict", "overrun".
    """

    id: int
    overrun: bool = False


class Refused(NamedTuple):
    """A trigger that got no id, and will get no verdict."""

    reason: Literal["not ready", "overrun"]


class Requests(Protocol):
    """What a PLC asks of the station. Called from any thread; takes a millisecond at most."""

    def trigger(self, part: str | None) -> Accepted | Refused:
        """A part is in place; `part` is what the PLC calls it, or None."""

    def select_recipe(self, name: str) -> None:
        """Load a recipe and use it from the next trigger on.

        Before it returns, or before the answer, a state with `asked == name` is published; the
        answer is one with `asked == ""` and `recipe == name`, or with the reason in `refused`.
        """

    def acknowledge(self, id: int) -> None:
        """The PLC has taken the verdict of this id. Comes in order, once an id and PLC."""


@dataclass(frozen=True)
class PlcStatus:
    """A PLC at one moment; `delivered + waiting + lost` are all verdicts it was to get.

    Attributes:
        name: kind and address, without secrets.
        connected: whether the PLC answers, or has asked within the last seconds.
        reason: "connected", or why not, on one line.
        waiting: verdicts that it has not taken yet.
        delivered: verdicts that it has taken.
        lost: verdicts that found no room because it was away for too long.
    """

    name: str
    connected: bool
    reason: str
    waiting: int
    delivered: int
    lost: int


class Plc(Protocol):
    """One PLC, or one server that PLCs ask. Every method but `start` returns at once."""

    def start(self, requests: Requests) -> None:
        """Begin; a PLC that is away is the same as one that goes away later.

        Raises:
            GadError: it never can, such as a port that is taken.
        """

    def publish(self, state: StationState) -> None:
        """What the station is now. Called when it changes, and at least once a second.

        The heartbeat stops three seconds after the last call: it says that the station is well,
        not only that a thread here is.
        """

    def deliver(self, verdict: Verdict) -> None:
        """Queue a verdict. It is shown once, in order, until the PLC has taken it."""

    @property
    def status(self) -> PlcStatus:
        """The PLC at this moment."""

    def close(self) -> None:
        """Say that the station is not ready any more, and free everything; takes 2 s at most."""
