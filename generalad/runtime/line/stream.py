"""`Stream`: a source and how its images are judged; `StreamMonitor` follows one through a run.

A monitor is a source tracker that also finds events, camera faults and drift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from generalad.decision import Result, Rule, decide
from generalad.image_statistics import statistics
from generalad.runtime.line.drift import DriftMonitor
from generalad.runtime.line.events import EventRule, EventTracker
from generalad.runtime.line.faults import FROZEN_AFTER, FaultDetector
from generalad.runtime.notification import CLOSED, SHUT_DOWN, Notification
from generalad.runtime.pipeline.tracker import Item, SourceTracker
from generalad.runtime.sources import LiveSource, Source
from generalad.runtime.view import StreamView
from generalad.spec import Spec

_LOST = frozenset({"stalled", "reconnecting", "failed", "ended"})


@dataclass(frozen=True)
class Stream:
    """A source and how its images are judged.

    Attributes:
        source: where the images come from.
        rule: when an image is anomalous.
        events: when anomalous images make an event; None finds no events.
        camera_faults: whether images beyond what calibration images look like are reported, and
            not scored where that can only be a fault of the camera.
        refused: what becomes of images that are not scored or look strange: "tell" notifies, and
            "reject" also makes them anomalous, where each image is a part that must be inspected.
        frozen_after: seconds of exactly equal images that are a camera fault.
        drift: whether slow changes against the calibration are watched for.
    """

    source: Source
    rule: Rule = field(default_factory=Rule)
    events: EventRule | None = None
    camera_faults: bool = False
    refused: Literal["tell", "reject"] = "tell"
    frozen_after: float = FROZEN_AFTER
    drift: bool = False

    @property
    def name(self) -> str:
        """What results and notifications call it."""
        return self.source.address

    @classmethod
    def of(cls, source: Source, rule: Rule | None = None) -> Stream:
        """With what suits the source: live ones have events, camera faults and drift."""
        rule = rule or Rule()
        if not isinstance(source, LiveSource):
            return cls(source, rule)
        return cls(source, rule, events=EventRule(), camera_faults=True, drift=True)

    def tracker(self, spec: Spec) -> StreamMonitor:
        """What follows the stream in a run of an artifact; raises UsageError."""
        return StreamMonitor(self, spec)


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
        self._stream = stream
        self._reject = stream.refused == "reject"
        self.needs_images = self._events is not None

    def check(self, item: Item) -> Notification | None:
        """Describe a resized image and look for a fault of the camera."""
        assert item.pixels is not None
        if self._faults is None:
            if self._drift is not None:
                item.statistics = statistics(item.pixels)
            return None
        checked = self._faults.check(
            item.pixels, item.image_size, item.began, not_found=item.not_found
        )
        item.statistics = checked.statistics
        if checked.fault is not None:
            item.fault = str(checked.fault)
        if checked.refused:
            item.pixels = None
        if checked.change is None:
            return None
        return Notification("fault", self.name, item.frame.time, checked.change)

    def decide(self, item: Item) -> tuple[Result, list[Notification]]:
        """Decide on a frame; events that begin or end with it, and drift that it completes."""
        result, found = super().decide(item)
        if self._events is not None:
            found += self._events.add(item.frame, result, item.map, holds=self._holds(item, result))
        if self._drift is not None and result.score is not None and item.statistics is not None:
            change = self._drift.add(item.score, item.statistics)
            if change is not None:
                found.append(Notification("drift", self.name, result.time, change))
        return result, found

    def _holds(self, item: Item, result: Result) -> bool | None:
        """Whether a frame holds an event where regions must be large enough; None: its score says.

        Asked at the release level: a region that grows and shrinks around `min_area` there is one
        event, and one that is small there too holds none.
        """
        if not self._rule.min_area or self._stream.events is None or item.map is None:
            return None
        if result.anomalous or result.score is None:
            return result.anomalous
        release = self._stream.events.release
        lower = decide(
            item.score,
            item.map,
            self._spec,
            rule=self._rule,
            image_size=item.image_size,
            lower=self._spec.normalisation.scale * math.log((1 - release) / release),
        )
        return lower is not None and lower.anomalous

    def _result(self, item: Item) -> Result:
        result = super()._result(item)
        if self._reject and (result.score is None or result.fault is not None):
            return replace(result, anomalous=True)
        return result

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
        asked = data["state"] == "ended" and data["reason"] == CLOSED
        return SHUT_DOWN if asked else f"camera {data['state']}"
    if kind == "fault" and data["state"] == "raised" and "share" not in data:
        return f"camera fault: {data['fault']}"
    return None
