"""`Stream`: a source and how its images are judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from generalad.decision import Rule
from generalad.runtime.addresses import open_sources
from generalad.runtime.line.faults import FROZEN_AFTER
from generalad.runtime.sources import LiveSource, Source

if TYPE_CHECKING:
    from generalad.runtime.line.events import EventRule


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
        from generalad.runtime.line.events import EventRule

        return cls(source, rule, events=EventRule(), camera_faults=True, drift=True)


def as_streams(item: str | Source | Stream, threshold: float | None) -> list[Stream]:
    """Streams of an address, a source or a stream; `threshold` is for the first two."""
    if isinstance(item, Stream):
        return [item]
    sources = open_sources([item]) if isinstance(item, str) else [item]
    return [Stream.of(source, Rule(threshold)) for source in sources]
