"""`Verdict`: the one answer to a trigger; `StationState`: what a station says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["pass", "reject", "no verdict"]
"""Of a part. What was not judged has no verdict, and a reason."""

Reason = Literal["camera fault", "picture lost", "late", "overrun", "restart"]
"""Why a part has no verdict.

camera fault: the camera is away, or its picture shows no part as it is to be shown.
picture lost: the trigger gave no whole picture, or one that could not be scored.
late: the deadline passed before all pictures were judged.
overrun: the trigger came while as many parts as the station takes at a time had no verdict yet.
restart: the process ended between trigger and verdict; the next one answers.
"""

REASONS: tuple[Reason, ...] = ("camera fault", "picture lost", "late", "overrun", "restart")
"""In the order of their codes for a PLC, from 1; 0 is none."""

Safe = Literal["pass", "reject"]
"""What a part without verdict is to be taken for."""

MOST_NAME = 200
"""Characters of the name of a part or recipe that is asked for."""

MAX_ID = 2**31 - 1
"""Ids fit a signed double word of a PLC."""


@dataclass(frozen=True)
class Verdict:
    """The one answer to a trigger.

    Attributes:
        id: of the trigger, 1 to `MAX_ID`; grows, and is never used twice by the same state folder.
        part: what the PLC or a message called the part, or None.
        outcome: what is said of the part.
        reason: why there is no verdict; None for pass and reject.
        detail: the reason in words, on one line, or empty.
        counts_as: what the gate is to do: the outcome, or the safe side where there is none.
        score: the largest normalised score of its pictures, the threshold at 0.5; None where no
            picture was scored.
        triggered: when the trigger came, in seconds of `time.monotonic`.
        decided: when the verdict was ready, likewise. Of a part that an earlier process left
            without an answer both are the moment of the restart.
        recipe: that judged it, or is loaded.
    """

    id: int
    part: str | None
    outcome: Outcome
    reason: Reason | None
    detail: str
    counts_as: Safe
    score: float | None
    triggered: float
    decided: float
    recipe: str

    @property
    def milliseconds(self) -> float:
        """From the trigger to the verdict."""
        return (self.decided - self.triggered) * 1000

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; monotonic clocks mean nothing elsewhere and are left out."""
        return {
            "verdict": self.id,
            "part": self.part,
            "outcome": self.outcome,
            "reason": self.reason,
            "detail": self.detail,
            "counts_as": self.counts_as,
            "score": self.score,
            "milliseconds": round(self.milliseconds, 3),
            "recipe": self.recipe,
        }


@dataclass(frozen=True)
class Counts:
    """What a process has counted since it began.

    Attributes:
        parts: triggers that got an id.
        passed, rejected: parts with a verdict.
        no_verdict: the other parts, by reason.
        without_trigger: pictures that belong to no part.
        refused: triggers that got no id because the station was not ready.
    """

    parts: int = 0
    passed: int = 0
    rejected: int = 0
    no_verdict: Mapping[Reason, int] = field(default_factory=dict)
    without_trigger: int = 0
    refused: int = 0

    @property
    def waiting(self) -> int:
        """Parts without an answer yet."""
        return self.parts - self.passed - self.rejected - sum(self.no_verdict.values())


@dataclass(frozen=True)
class StationState:
    """What a station says of itself to a PLC, whenever it changes.

    Attributes:
        ready: a trigger now would be inspected.
        busy: at least one part has no verdict yet.
        error: why it is not ready, on one line, or empty.
        recipe: name of the recipe that judges parts.
        model: name of its artifact.
        asked: recipe that was asked for and is being loaded, or empty.
        refused: why the last recipe asked for is not the one in use, on one line, or empty.
        started: how often a process has begun with this state folder; another number tells a PLC
            that this one is new.
        started_anew: the process before this one did not come to its end (killed, power lost).
        counts: of this process.
    """

    ready: bool = False
    busy: bool = False
    error: str = ""
    recipe: str = ""
    model: str = ""
    asked: str = ""
    refused: str = ""
    started: int = 0
    started_anew: bool = False
    counts: Counts = field(default_factory=Counts)
