"""`StreamMonitor`: a source tracker that also finds events, camera faults and drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from generalad.decision import Result
from generalad.image_statistics import statistics
from generalad.runtime.line.drift import DriftMonitor
from generalad.runtime.line.events import EventTracker
from generalad.runtime.line.faults import FaultDetector
from generalad.runtime.notification import Notification
from generalad.runtime.pipeline.tracker import Item, SourceTracker
from generalad.runtime.view import StreamView
from generalad.spec import Spec

if TYPE_CHECKING:
    from generalad.runtime.line.stream import Stream

_LOST = frozenset({"stalled", "reconnecting", "failed", "ended"})


class StreamMonitor(SourceTracker):
    """Watches one stream of a run."""

    def __init__(self, stream: Stream, spec: Spec) -> None:
        """Raises UsageError where the rule does not fit the artifact."""
        super().__init__(stream.source, stream.rule, spec)
        self._faults = (
            FaultDetector(spec.reference, frozen_after=stream.frozen_after)
            if stream.camera_faults
            else None
        )
        self._events = None if stream.events is None else EventTracker(stream.name, stream.events)
        self._drift = (
            DriftMonitor(spec.reference) if stream.drift and spec.reference is not None else None
        )
        self.needs_images = self._events is not None

    def check(self, item: Item) -> Notification | None:
        """Describe a resized image and look for a fault of the camera."""
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

    def decide(self, item: Item) -> tuple[Result, list[Notification]]:
        """Decide on a frame; events that begin or end with it, and drift that it completes."""
        result, found = super().decide(item)
        if self._events is not None:
            found += self._events.add(item.frame, result, item.map)
        if self._drift is not None and result.score is not None and item.statistics is not None:
            change = self._drift.add(item.score, item.statistics)
            if change is not None:
                found.append(Notification("drift", self.name, result.time, change))
        return result, found

    def after(self, notification: Notification) -> Sequence[Notification]:
        """An event ends when nothing more is seen."""
        reason = _blinding(notification.kind, notification.data)
        if reason is None or self._events is None:
            return ()
        return self._events.close(reason, time=notification.time)

    def finish(self, reason: str) -> Sequence[Notification]:
        """End the event that goes on."""
        return () if self._events is None else self._events.close(reason)

    def view(self) -> StreamView:
        """The stream at this moment."""
        return (
            super()
            .view()
            ._replace(
                events=0 if self._events is None else self._events.count,
                in_event=self._events is not None and self._events.event is not None,
                fault=None if self._faults is None else self._faults.state,
                drift=None if self._drift is None else self._drift.state,
            )
        )


def _blinding(kind: str, data: dict[str, Any]) -> str | None:
    """Why nothing more is seen from a notification on, or None."""
    if kind == "camera" and data["state"] in _LOST:
        return f"camera {data['state']}"
    if kind == "fault" and data["state"] == "raised":
        return f"camera fault: {data['fault']}"
    return None
