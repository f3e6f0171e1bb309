"""`Stream`: a source and how its images are judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from generalad.decision import Rule
from generalad.runtime.line.events import EventRule
from generalad.runtime.line.faults import FROZEN_AFTER
from generalad.runtime.line.monitor import StreamMonitor
from generalad.runtime.sources import LiveSource, Source
from generalad.spec import Spec


@dataclass(frozen=True)
class Stream:
    """A source and how its images are judged.

    Attributes:
        source: where the images come from.
        rule: when an image is anomalous.
        events: when anomalous images make an event; None finds no events.
        camera_faults: whether images that show a fault of the camera are recognised, reported and
            not scored.
        frozen_after: seconds of exactly equal images that are a camera fault.
        drift: whether slow changes against the calibration are watched for.
    """

    source: Source
    rule: Rule = field(default_factory=Rule)
    events: EventRule | None = None
    camera_faults: bool = False
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
