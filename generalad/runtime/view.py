"""`View`: what a run is doing at one moment, for displays and metrics, from any thread."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

LIVE, GIVEN_UP = "live", "failed"
"""States of a camera: frames come, and no further attempt can help; values of `sources.State`."""


class StreamView(NamedTuple):
    """One stream at one moment.

    Attributes:
        name: of the stream.
        live: whether it is a camera, or something like one.
        state: a value of `cameras.State`; of a file "waiting", "reading" or "ended".
        reason: of the state, on one line.
        captured, processed, dropped, in_flight: frames; the first is always the sum of the others.
            `dropped` is by reason.
        anomalous: part of the processed.
        reconnects: how often frames came again after they had been lost.
        fps: processed frames a second over the last ones; 0 while there are too few.
        median, p95: milliseconds from capture to decision over the last frames.
        score: normalised, of the last frame that was scored.
        events: so far, with the one that goes on.
        in_event: whether one goes on.
        fault: camera fault that is raised, or None.
        drift: state of the drift monitor, or None where there is none.
    """

    name: str
    live: bool
    state: str
    reason: str
    captured: int
    processed: int
    dropped: Mapping[str, int]
    in_flight: int
    anomalous: int
    reconnects: int
    fps: float
    median: float
    p95: float
    score: float | None
    events: int
    in_event: bool
    fault: str | None
    drift: str | None


class SinkView(NamedTuple):
    """A sink at one moment.

    Attributes:
        name: where to, without secrets.
        connected: whether a receiver can be reached; None for a folder.
        problem: what is wrong, on one line, or empty.
        kept: delivered messages, or entries of a folder.
        waiting: messages to be delivered.
        dropped: what was given up, by reason.
    """

    name: str
    connected: bool | None
    problem: str
    kept: int
    waiting: int
    dropped: Mapping[str, int]


class StationView(NamedTuple):
    """A station at one moment.

    Attributes:
        name: of the station.
        ready: whether a part that comes now would be inspected.
        error: why not, or what else is wrong, on one line, or empty.
        recipe: in use.
        asked: being loaded, or empty.
        parts: triggers that got an id.
        waiting: of them without a verdict.
        verdicts: by kind: "pass", "reject", and "no verdict: REASON".
        without_trigger: pictures that belong to no part.
        refused: triggers that got no id.
        started_anew: the process before this one was killed.
        median, p99, p999: milliseconds from trigger to verdict over the last 10,000 parts.
    """

    name: str
    ready: bool
    error: str
    recipe: str
    asked: str
    parts: int
    waiting: int
    verdicts: Mapping[str, int]
    without_trigger: int
    refused: int
    started_anew: bool
    median: float
    p99: float
    p999: float


class View(NamedTuple):
    """A run at one moment.

    Attributes:
        streams: in the order given.
        sinks: those that can tell, in the order given.
        not_written: results and notifications that sinks could not take, by kind of sink.
        seconds: since the run began.
        busy: seconds that the network has been at its present batch, 0 when it waits.
        backend: what the session runs on.
        stages: of readers and the writer, seconds that each has been at its present item.
        station: that the streams belong to, or None.
    """

    streams: tuple[StreamView, ...]
    sinks: tuple[SinkView, ...]
    not_written: Mapping[str, int]
    seconds: float
    busy: float
    backend: str
    stages: Mapping[str, float] = MappingProxyType({})
    station: StationView | None = None


class Look(Protocol):
    """Called from any thread, at any time."""

    def __call__(self) -> View:
        """The run at this moment."""


class Observer(Protocol):
    """Shows a run to people or machines while it goes on."""

    def begin(self, look: Look) -> None:
        """The run begins; called in the thread of `infer`."""

    def end(self) -> None:
        """The run is over; `look` still works. Called once after `begin`."""
