"""`SourceTracker` decides on the frames of one source and counts them; `Item` is one on its way.

This is all that files need. A camera's tracker (`runtime.line.monitor`) adds camera faults, events
and drift.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from generalad.decision import Milliseconds, Result, Rule, decide, framed
from generalad.runtime.sources import Frame, LiveSource, Source
from generalad.runtime.view import StreamView
from generalad.spec import Spec
from generalad.statistics import quantile

if TYPE_CHECKING:
    from generalad.geometry.placement import Placement
    from generalad.image_statistics import Statistics
    from generalad.runtime.notification import Notification
    from generalad.runtime.pipeline.likeness import Likeness

_RECENT = 300
"""Frames over which speed and latency are shown."""


@dataclass(eq=False)
class Item:
    """A frame on its way through the pipeline, with what becomes known of it.

    Attributes:
        tracker: of its source.
        frame: as the source gave it; without its image once nobody needs it.
        began: when its reading began, or when a camera gave it, in seconds of `time.perf_counter`.
        read, preprocess, infer: milliseconds.
        image_size: (height, width) of the original.
        error: why it cannot be scored.
        not_found: why the part was not found in it; then it is not scored.
        fault: how it lies beyond what the camera is to show; without pixels it is not scored.
        statistics: of the resized image, where somebody watches them.
        pixels: (H, W, 3) uint8 RGB, the network's input; None before and after the network.
        score: raw, once it is scored.
        placement: where what the network sees lies in its frame; None for all of it.
        map: (h, w) float32, raw, once it is scored; once it is decided on, of the whole frame.
    """

    tracker: SourceTracker
    frame: Frame
    began: float
    read: float
    image_size: tuple[int, int] = (0, 0)
    preprocess: float = 0.0
    infer: float = 0.0
    error: str | None = None
    not_found: str | None = None
    fault: str | None = None
    statistics: Statistics | None = None
    pixels: NDArray[np.uint8] | None = None
    placement: Placement | None = None
    score: float = 0.0
    map: NDArray[np.float32] | None = None


@dataclass(eq=False)
class Message:
    """A notification on its way, in order with the frames of its source."""

    tracker: SourceTracker
    notification: Notification


class SourceTracker:
    """What one source of a run has come to.

    `check` is called by the thread that reads the source, `decide`, `after` and `finish` by the
    writer's, `view` by any.
    """

    needs_images = False
    """Whether `decide` needs `Frame.image`."""

    def __init__(self, source: Source, rule: Rule, spec: Spec) -> None:
        """Raises UsageError where the rule does not fit the artifact."""
        rule.check(spec)
        self.source = source
        self.name = source.address
        self._rule = rule
        self._spec = spec
        self._live = source if isinstance(source, LiveSource) else None
        self._lock = threading.Lock()
        self._began = self._ended = False
        self._captured = self._processed = self._anomalous = 0
        self._dropped: Counter[str] = Counter()
        self._totals: deque[float] = deque(maxlen=_RECENT)
        self._moments: deque[float] = deque(maxlen=_RECENT)
        self._last: Result | None = None
        self._likeness: Likeness | None = None

    @property
    def live(self) -> bool:
        """Whether the source is a camera, or something like one."""
        return self._live is not None

    # In the thread that reads

    def began(self) -> None:
        """Reading begins."""
        self._began = True

    def captured(self) -> None:
        """Count a frame that entered."""
        with self._lock:
            self._captured += 1

    def check(self, item: Item) -> Notification | None:
        """Look at a resized image before it is scored; a notification where the state changed."""
        if self._spec.reference is not None and item.pixels is not None:
            if self._likeness is None:
                from generalad.runtime.pipeline.likeness import Likeness  # not of live sources

                self._likeness = Likeness(self._spec.reference)
            strange = self._likeness.see(item.pixels, item.image_size)
            if item.not_found is None:
                item.fault = strange
        return None

    def far_off(self) -> str:
        """See `Rule.far_off`."""
        said = self._rule.far_off(self._spec)
        return said and f"{self.name}: {said}"

    def doubts(self) -> str:
        """How files differ from the images of the calibration, a warning; or empty."""
        return "" if self._likeness is None else self._likeness.in_words(self.name)

    def ended(self) -> None:
        """No further frame."""
        self._ended = True

    def stop(self) -> None:
        """Ask a live source for no further frames."""
        if self._live is not None:
            self._live.stop()

    def set_rule(self, rule: Rule) -> None:
        """Judge by another rule, from the next frame on; called by any thread.

        Raises:
            UsageError: it does not fit the artifact.
        """
        rule.check(self._spec)
        self._rule = rule

    # In the writer's thread

    def decide(self, item: Item) -> tuple[Result, list[Notification]]:
        """Decide on a frame that has passed all stages, and count it."""
        result = self._result(item)
        self._count(result)
        return result, []

    def after(self, notification: Notification) -> Sequence[Notification]:
        """What must be told before a notification of the source itself."""
        return ()

    def finish(self, reason: str) -> Sequence[Notification]:
        """What is to be told at the end of the run."""
        return ()

    def settle(self, item: Item, result: Result) -> None:
        """Tell a live source what became of its frame."""
        if self._live is not None:
            self._live.done(item.frame, dropped=why_not_scored(result))

    def _result(self, item: Item) -> Result:
        decision, error, frame = None, item.error, item.frame
        if item.map is not None:
            item.map = framed(item.map, item.placement, self._spec)
            decision = decide(
                item.score, item.map, self._spec, rule=self._rule, image_size=item.image_size
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
            match=None if item.placement is None else item.placement.match,
        )

    def _count(self, result: Result) -> None:
        reason = why_not_scored(result)
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
        """The source at this moment."""
        with self._lock:
            captured, processed, dropped = self._captured, self._processed, dict(self._dropped)
            anomalous, last = self._anomalous, self._last
            totals, moments = sorted(self._totals), list(self._moments)
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
            live=self.live,
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
            events=0,
            in_event=False,
            fault=None,
            drift=None,
        )


def why_not_scored(result: Result) -> str | None:
    """The reason under which a frame is counted as dropped; None for one that was scored."""
    if result.fault is not None and result.score is None:
        return f"camera fault: {result.fault.split(':')[0]}"
    return None if result.error is None else "failed"


def takes_a_place(thing: Item | Message) -> bool:
    """Whether it takes a place in a batch."""
    return isinstance(thing, Item) and thing.pixels is not None


def _fps(moments: list[float], now: float) -> float:
    """Frames a second up to now, so that it falls when none come."""
    recent = [moment for moment in moments if moment > now - 10]
    if len(recent) < 2:
        return 0.0
    rate = (len(recent) - 1) / (recent[-1] - recent[0]) if recent[-1] > recent[0] else 0.0
    waited = now - recent[-1]
    return min(rate, 1 / waited) if waited > 0 else rate
