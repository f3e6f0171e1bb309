"""`EventTracker`: from decisions on single frames to events with a beginning, a peak and an end.

              anomalous frames                      frames at or above the release level
    normal ── `frames` of the last `of` ──► event ── none of the last `of` ──► normal
                                              └───── close(reason) ──────────► normal

Frames without a score (errors, camera faults) are left out, as though they had not come: they
neither begin nor prolong an event, nor end it. Who knows that the camera is lost, or that its fault
lasts, ends the event with `close`.
"""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import time as wall_clock
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.decision import Region, Result
from generalad.errors import UsageError
from generalad.runtime.names import utc_stamp
from generalad.runtime.notification import KILLED, Evidence, Notification
from generalad.runtime.sources import Frame

NORMAL = "normal"
"""`Event.ended_by` where the images became normal again."""

_MOST_FRAMES = 1000


@dataclass(frozen=True)
class EventRule:
    """When anomalous frames make an event. Frames are those of one stream that have a score.

    The release level is the second threshold of a hysteresis: a score that swings around the first
    one is one event. A frame that is normal although its score reaches the first threshold, because
    its regions are too small (`Rule.min_area`), does not hold an event.

    Attributes:
        frames: an event begins when so many of the last `of` frames are anomalous.
        of: from `frames` to 1000.
        release: an event ends when none of the last `of` frames has this normalised score; above 0,
            at most 0.5, which is the threshold.
    """

    frames: int = 1
    of: int = 1
    release: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= self.of <= _MOST_FRAMES:
            raise UsageError(
                f"expected 1 <= frames <= of <= {_MOST_FRAMES}, found frames {self.frames} and of "
                f"{self.of}"
            )
        if not 0 < self.release <= 0.5:
            raise UsageError(
                f"release: expected a normalised score above 0 and up to 0.5, found {self.release}"
            )


@dataclass(frozen=True)
class Peak:
    """The anomalous frame of an event with the largest score, the first of several."""

    time: float
    index: int
    score: float
    normalised: float
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Event:
    """Anomalies on a stream that belong together; times as in `Frame.time`.

    Times of a video's events count from its start; their ids say when they were found.

    Attributes:
        id: sorts by `begin` and is unique, also across restarts: UTC time and a random number.
        stream: name of the stream.
        begin: time of the first anomalous frame, one of those that made it an event.
        end: time of the last frame that held it, None while it goes on; never before `begin`.
        peak: so far, while it goes on.
        frames: with a score, from the first to the last that held it.
        anomalous: how many of these.
        ended_by: `NORMAL`, or the reason given to `close`; None while it goes on.
    """

    id: str
    stream: str
    begin: float
    end: float | None
    peak: Peak
    frames: int
    anomalous: int
    ended_by: str | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON, beside the stream in `Notification.to_dict`; the id is "event"."""
        values = dataclasses.asdict(self)
        del values["stream"]
        return {"event": values.pop("id"), **values}


class _Scored(NamedTuple):
    """What is remembered of a frame in the window."""

    number: int
    time: float
    anomalous: bool
    holds: bool


class _Candidate(NamedTuple):
    """An anomalous frame that may become a peak."""

    number: int
    peak: Peak
    evidence: Evidence | None


class EventTracker:
    """The events of one stream; used by one thread.

    Memory is bounded however long an event is: it holds one image, and before an event at most
    `rule.frames`, because the first ones may be its peak. Images are kept, not copied, so nobody
    may write into them.
    """

    def __init__(
        self,
        stream: str,
        rule: EventRule | None = None,
        *,
        clock: Callable[[], float] = wall_clock,
    ) -> None:
        """`stream` is the name that notifications carry; without a rule `EventRule()` holds.

        `clock` gives seconds since 1970, for the events of videos.
        """
        self._clock = clock
        self._is_video = False
        self.stream = stream
        self.count = 0
        """Events so far, with the one that goes on."""
        self._rule = rule or EventRule()
        self._number = 0
        self._time = 0.0
        self._offset: float | None = None  # of the wall clock to the one that runs evenly
        self._window: deque[_Scored] = deque(maxlen=self._rule.of)
        self._candidates: deque[_Candidate] = deque()  # by falling score, rising number
        self._event: Event | None = None
        self._first = 0  # number of its first frame
        self._held_at = 0.0  # time of the last frame that held it
        self._evidence: Evidence | None = None

    @property
    def event(self) -> Event | None:
        """The one that goes on, as far as it is known."""
        return self._event

    def add(
        self,
        frame: Frame,
        result: Result,
        anomaly_map: NDArray[np.float32] | None,
        *,
        holds: bool | None = None,
    ) -> list[Notification]:
        """Take the next frame of the stream.

        Args:
            frame: its image becomes evidence, if it has one.
            result: the decision on it; one without a score is left out.
            anomaly_map: (h, w), raw; None where there is no score.
            holds: whether the frame is to hold an event; None: an anomalous one does, and one whose
                score lies between the release level and the threshold.

        Returns:
            One notification where an event begins or ends, else none. That of the end has image
            and map of the peak.
        """
        if result.score is None or result.normalised is None:
            return []
        self._is_video = frame.rate is not None and frame.captured_at is None
        self._number += 1
        self._time = time = self._time_of(frame, result)
        anomalous = bool(result.anomalous)
        if holds is None:
            holds = anomalous or self._rule.release <= result.normalised < 0.5
        self._window.append(_Scored(self._number, time, anomalous, holds))
        candidate = None
        if anomalous:
            peak = Peak(time, result.index, result.score, result.normalised, result.regions)
            candidate = _Candidate(self._number, peak, _evidence(frame, anomaly_map))
        if self._event is None:
            return self._before(candidate)
        return self._during(self._event, candidate, holds)

    def close(self, reason: str, *, time: float | None = None) -> list[Notification]:
        """End the event that goes on, and forget the frames that might have begun one.

        Args:
            reason: such as "camera lost"; becomes `Event.ended_by`.
            time: of the notification; None takes that of the last frame.

        Returns:
            The notification of the end, none where no event goes on.
        """
        notifications = [] if self._event is None else [self._end(self._event, reason, time)]
        self._window.clear()
        self._candidates.clear()
        return notifications

    def _time_of(self, frame: Frame, result: Result) -> float:
        """When a frame was taken, on a clock that nobody sets while an event begins or goes on."""
        if frame.captured_at is None:
            return result.time
        idle = self._event is None and not any(scored.anomalous for scored in self._window)
        if idle or self._offset is None:
            self._offset = result.time - frame.captured_at
        return frame.captured_at + self._offset

    def _before(self, candidate: _Candidate | None) -> list[Notification]:
        queue = self._candidates
        while queue and queue[0].number <= self._number - self._rule.of:
            queue.popleft()
        if candidate is None:
            return []
        # One that is weaker and older than another cannot become the peak any more.
        while queue and queue[-1].peak.score < candidate.peak.score:
            queue.pop()
        queue.append(candidate)
        anomalous = [scored for scored in self._window if scored.anomalous]
        if len(anomalous) < self._rule.frames:
            return []
        first, strongest = anomalous[0], queue[0]
        self.count += 1
        self._first, self._evidence = first.number, strongest.evidence
        self._event = Event(
            id=f"{utc_stamp(self._begun(first.time))}-{os.urandom(4).hex()}",
            stream=self.stream,
            begin=first.time,
            end=None,
            peak=strongest.peak,
            frames=self._number - first.number + 1,
            anomalous=len(anomalous),
            ended_by=None,
        )
        self._held_at = candidate.peak.time
        queue.clear()
        begin = self._notification(self._event, "begin", self._time)
        killed = dataclasses.replace(self._event, end=self._held_at, ended_by=KILLED)
        return [dataclasses.replace(begin, if_killed=self._notification(killed, "end", self._time))]

    def _begun(self, time: float) -> float:
        """The time in the id: a video counts from its start, which is no date."""
        return self._clock() if self._is_video else time

    def _during(
        self, event: Event, candidate: _Candidate | None, holds: bool
    ) -> list[Notification]:
        if candidate is not None:
            event = dataclasses.replace(event, anomalous=event.anomalous + 1)
            if candidate.peak.score > event.peak.score:
                event = dataclasses.replace(event, peak=candidate.peak)
                self._evidence = candidate.evidence
        if holds:
            event = dataclasses.replace(event, frames=self._number - self._first + 1)
            self._held_at = self._time
        self._event = event
        if any(scored.holds for scored in self._window):
            return []
        return [self._end(event, NORMAL, None)]

    def _end(self, event: Event, reason: str, time: float | None) -> Notification:
        # A clock that was set back must not make an event that ends before it begins.
        end = max(event.begin, self._held_at)
        ended = dataclasses.replace(event, end=end, ended_by=reason)
        notification = self._notification(
            ended, "end", self._time if time is None else time, self._evidence
        )
        self._event, self._evidence = None, None
        return notification

    def _notification(
        self,
        event: Event,
        phase: Literal["begin", "end"],
        time: float,
        evidence: Evidence | None = None,
    ) -> Notification:
        data = {"phase": phase, **event.to_dict()}
        time = self._clock() if self._is_video else time
        return Notification("event", self.stream, time, data, evidence, id=f"{event.id}-{phase}")


def _evidence(frame: Frame, anomaly_map: NDArray[np.float32] | None) -> Evidence | None:
    if frame.image is None or anomaly_map is None:
        return None
    return Evidence(frame.image, anomaly_map.copy())  # a view would keep its whole batch
