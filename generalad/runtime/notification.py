"""`Notification`: something that happened on a stream, for sinks that tell people and machines."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

CLOSED = "closed"
"""Reason of a camera that ended because it was asked to."""

SHUT_DOWN = "shut down"
"""Why an event ended with the run."""

KILLED = "gad was killed"
"""The same where the process ended without a word; what is told is of the beginning."""

NotificationKind = Literal["event", "camera", "fault", "drift", "verdict", "station"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The image a notification speaks of.

    Attributes:
        image: (H, W, 3) uint8 RGB, as the camera gave it.
        anomaly_map: (h, w) float32, raw.
    """

    image: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Notification:
    """Something that happened on a stream.

    Attributes:
        kind: "event" (anomalies began or ended), "camera" (its state changed), "fault" (its
            images became unusable or usable again), "drift" (what it shows has changed slowly),
            "verdict" (of a part), "station" (a process began).
        stream: name of the stream, or of the station.
        time: when it happened, seconds since 1970.
        data: what happened, as JSON values without secrets.
        evidence: the peak image at the end of an event, the worst of a part that is rejected.
        id: of this notification; the same one twice is one delivery repeated.
        if_killed: what is to be told later in place of this process, should it be killed before
            it has told a notification of that id itself.
    """

    kind: NotificationKind
    stream: str
    time: float
    data: dict[str, Any]
    evidence: Evidence | None = None
    id: str = field(default_factory=lambda: os.urandom(16).hex())
    if_killed: Notification | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it but the images and `if_killed`, for JSON."""
        return {
            "notice": self.kind,
            "id": self.id,
            "stream": self.stream,
            "time": self.time,
            **self.data,
        }


@runtime_checkable
class TakesNotifications(Protocol):
    """A sink that also takes notifications, in the thread that calls `write`, in order."""

    def notification(self, notification: Notification) -> None:
        """Take one; raises StorageError when it cannot be kept."""
