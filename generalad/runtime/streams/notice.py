"""`Notice`: something that happened on a stream, for sinks that tell people and machines."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

NoticeKind = Literal["event", "camera", "fault", "drift"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The picture a notice speaks of.

    Attributes:
        image: (H, W, 3) uint8 RGB, as the camera gave it.
        anomaly_map: (h, w) float32, raw.
    """

    image: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Notice:
    """Something that happened on a stream.

    Attributes:
        kind: "event" (anomalies began or ended), "camera" (its state changed), "fault" (its
            pictures became unusable or usable again), "drift" (what it shows has changed slowly).
        stream: name of the stream.
        time: when it happened, seconds since 1970.
        data: what happened, as JSON values without secrets.
        evidence: the peak picture at the end of an event, else None.
        id: of this notice; the same one twice is one delivery repeated.
        will: what is to be told later in place of this process, should it be killed before it has
            told a notice of that id itself.
    """

    kind: NoticeKind
    stream: str
    time: float
    data: dict[str, Any]
    evidence: Evidence | None = None
    id: str = field(default_factory=lambda: os.urandom(16).hex())
    will: Notice | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it but the pictures and the will, for JSON."""
        return {
            "notice": self.kind,
            "id": self.id,
            "stream": self.stream,
            "time": self.time,
            **self.data,
        }


@runtime_checkable
class TakesNotices(Protocol):
    """A sink that also takes notices, in the thread that calls `write`, in order."""

    def notice(self, notice: Notice) -> None:
        """Take one; raises StorageError when it cannot be kept."""
