"""`Monitor`: all that is known of one stream: decisions, events, faults, drift, counts.

`check` is called by the thread that reads the stream and `judge` by the writer; `view` by anybody.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from generalad.decision import Milliseconds, Result, decide
from generalad.image_statistics import statistics
from generalad.runtime.line.faults import FaultDetector
from generalad.runtime.line.stream import Stream
from generalad.runtime.notification import Notification
from generalad.runtime.pipeline.summary import quantile
from generalad.runtime.sources import LiveSource
from generalad.runtime.view import StreamView
from generalad.spec import Spec

if TYPE_CHECKING:
    from generalad.runtime.line.drift import DriftMonitor
    from generalad.runtime.line.events import EventTracker
    from generalad.runtime.pipeline.item import Item

_RECENT = 300
"""Frames over which speed and latency are shown."""

_LOST = frozenset({"stalled", "reconnecting", "failed", "ended"})


class Monitor:
    """Watches one stream of a run."""

    def __init__(self, stream: Stream, spec: Spec) -> None:
        """Raises UsageError where the rule does not fit the artifact."""
        stream.rule.check(spec)
        self.stream = stream
        self.name = stream.name
        self._spec = spec
        self._live = stream.source if isinstance(stream.source, LiveSource) else None
        self._faults = (
            FaultDetector(spec.reference, frozen_after=stream.frozen_after)
            if stream.camera_faults
            else None
        )
        self._events = _event_tracker(stream)
        self._drift = _drift_monitor(stream, spec)
        self._lock = threading.Lock()
        self._began = self._ended = False
        self._captured = self._processed = self._anomalous = 0
        self._dropped: Counter[str] = Counter()
        self._totals: deque[float] = deque(maxlen=_RECENT)
        self._moments: deque[float] = deque(maxlen=_RECENT)
        self._last: Result | None = None

    # In the thread that reads

    def began(self) -> None:
        """Reading begins."""
        self._began = True

    def captured(self) -> None:
        """Count a frame that entered."""
        with self._lock:
            self._captured += 1

    def check(self, item: Item) -> Notification | None:
        """Describe a resized image and look for a fault of the camera.

        Returns:
            A notification if the stream's fault changed with it.
        """
        assert item.pixels is not None
        if self._faults is None:
            if self._drift is not None:
                item.statistics = statistics(item.pixels)
            return None
        checked = self._faults.check(item.pixels, item.image_size, item.began)
        item.statistics = checked.statistics
        if checked.fault is not None:
            item.fault, item.pixels = str(checked.fault), None
        if checked.change is None:
            return None
        return Notification("fault", self.name, item.frame.time, checked.change)

    def ended(self) -> None:
        """No further frame."""
        self._ended = True

    # In the writer's thread

    def judge(self, item: Item) -> tuple[Result, list[Notification]]:
        """Decide on a frame that has passed all stages."""
        result = self._result(item)
        notifications = (
            [] if self._events is None else self._events.add(item.frame, result, item.map)
        )
        if self._drift is not None and result.score is not None and item.statistics is not None:
            change = self._drift.add(item.score, item.statistics)
            if change is not None:
                notifications.append(Notification("drift", self.name, result.time, change))
        self._count(result)
        return result, notifications

    def heard(self, notification: Notification) -> list[Notification]:
        """What follows from a notification on the stream: events end when nothing more is seen."""
        reason = _blinding(notification.kind, notification.data)
        if reason is None or self._events is None:
            return []
        return self._events.close(reason, time=notification.time)

    def close(self, reason: str) -> list[Notification]:
        """End the event that goes on."""
        return [] if self._events is None else self._events.close(reason)

    def settle(self, item: Item, result: Result) -> None:
        """Tell a live source what became of its frame."""
        if self._live is not None:
            self._live.settle(item.frame, dropped=_dropped(result))

    def _result(self, item: Item) -> Result:
        decision, error, frame = None, item.error, item.frame
        if item.map is not None:
            decision = decide(
                item.score,
                item.map,
                self._spec,
                rule=self.stream.rule,
                image_size=item.image_size,
            )
            if decision is None:
                where = frame.path or f"{self.name}, frame {frame.index}"
                error = f"{where}: the network returned a number that is not finite"
        total = (time.perf_counter() - item.began) * 1000
        return Result(
            source=frame.source,
            index=frame.index,
            time=frame.time,
            path=frame.path,
            score=decision.score if decision else None,
            normalised=decision.normalised if decision else None,
            anomalous=decision.anomalous if decision else None,
            regions=decision.regions if decision else (),
            milliseconds=Milliseconds(item.read, item.preprocess, item.infer, total),
            error=error,
            fault=item.fault,
        )

    def _count(self, result: Result) -> None:
        reason = _dropped(result)
        with self._lock:
            if reason is not None:
                self._dropped[reason] += 1
                return
            self._processed += 1
            self._anomalous += bool(result.anomalous)
            self._totals.append(result.milliseconds.total)
            self._moments.append(time.monotonic())
            self._last = result

    # Anywhere

    def view(self) -> StreamView:
        """The stream at this moment."""
        with self._lock:
            counts = (self._captured, self._processed, dict(self._dropped))
            anomalous, last = self._anomalous, self._last
            totals, moments = sorted(self._totals), list(self._moments)
        captured, processed, dropped = counts
        in_flight = captured - processed - sum(dropped.values())
        state = "ended" if self._ended else "reading" if self._began else "waiting"
        reason, reconnects = "", 0
        if self._live is not None:
            status = self._live.status()
            state, reason, reconnects = status.state.value, status.reason, status.reconnects
            captured, processed, dropped = status.captured, status.processed, dict(status.dropped)
            in_flight = status.in_flight
        return StreamView(
            name=self.name,
            live=self._live is not None,
            state=state,
            reason=reason,
            captured=captured,
            processed=processed,
            dropped=dropped,
            in_flight=in_flight,
            anomalous=anomalous,
            reconnects=reconnects,
            fps=_fps(moments, time.monotonic()),
            median=quantile(totals, 0.5) if totals else 0.0,
            p95=quantile(totals, 0.95) if totals else 0.0,
            score=None if last is None else last.normalised,
            events=0 if self._events is None else self._events.count,
            in_event=self._events is not None and self._events.event is not None,
            fault=None if self._faults is None else self._faults.state,
            drift=None if self._drift is None else self._drift.state,
        )


# A run over files starts without what the next two load.


def _event_tracker(stream: Stream) -> EventTracker | None:
    if stream.events is None:
        return None
    from generalad.runtime.line.events import EventTracker

    return EventTracker(stream.name, stream.events)


def _drift_monitor(stream: Stream, spec: Spec) -> DriftMonitor | None:
    if not stream.drift or spec.reference is None:
        return None
    from generalad.runtime.line.drift import DriftMonitor

    return DriftMonitor(spec.reference)


def _dropped(result: Result) -> str | None:
    """Why a frame was not scored."""
    if result.fault is not None:
        return f"camera fault: {result.fault.split(':')[0]}"
    return None if result.error is None else "failed"


def _blinding(kind: str, data: dict[str, Any]) -> str | None:
    """Why nothing more is seen from a notification on, or None."""
    if kind == "camera" and data["state"] in _LOST:
        return f"camera {data['state']}"
    if kind == "fault" and data["state"] == "raised":
        return f"camera fault: {data['fault']}"
    return None


def _fps(moments: list[float], now: float) -> float:
    """Frames a second up to now, so that it falls when none come."""
    recent = [moment for moment in moments if moment > now - 10]
    if len(recent) < 2:
        return 0.0
    rate = (len(recent) - 1) / (recent[-1] - recent[0]) if recent[-1] > recent[0] else 0.0
    waited = now - recent[-1]
    return min(rate, 1 / waited) if waited > 0 else rate
