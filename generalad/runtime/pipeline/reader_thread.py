"""`ReaderThread`: reads sources one after another and gets their images ready.

A camera has a reader of its own, so that no other source holds it up. All files share one: they are
read in the order given.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.geometry.placement import NOT_FOUND, PartNotFound, Prepared, without_template
from generalad.geometry.placement import prepare as bring_to_network
from generalad.runtime.pipeline.busy import Busy
from generalad.runtime.pipeline.queues import FairBatcher
from generalad.runtime.pipeline.tracker import Item, Message, SourceTracker
from generalad.runtime.sources import Frame, LiveSource, Source
from generalad.spec import Spec

if TYPE_CHECKING:
    from generalad.runtime.notification import Notification
    from generalad.runtime.pipeline.kept_images import KeptImages


class ReaderThread:
    """What one thread of a run reads."""

    def __init__(
        self,
        trackers: Sequence[SourceTracker],
        *,
        spec: Spec,
        keep_images: bool,
        on_frame: Callable[[], None],
        kept: KeptImages | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            trackers: of the sources.
            spec: that of the network.
            keep_images: whether somebody needs the images later.
            on_frame: told of every frame.
            kept: bounds the images of files that are kept; None where they are not bounded.
        """
        self.trackers = trackers
        self.live = any(tracker.live for tracker in trackers)
        self._spec = spec
        self._keep_images = keep_images
        self._on_frame = on_frame
        self._kept = None if self.live else kept
        self._busy = Busy()
        self.stopping = False
        """Whether files are to be read no further; may be set in a signal handler."""

    @property
    def name(self) -> str:
        """For its thread."""
        return self.trackers[0].name if self.live else "files"

    @property
    def busy(self) -> float:
        """Seconds that it has been at one image, without waiting for one."""
        sources = [getattr(tracker.source, "busy", 0.0) for tracker in self.trackers]
        return max(self._busy.seconds, *sources)

    def stop(self) -> None:
        """Read no further; what a camera has given already is still handed on."""
        self.stopping = True
        for tracker in self.trackers:
            tracker.stop()

    def run(self, number: int, batcher: FairBatcher[Item | Message]) -> None:
        """Read all sources to their ends, or until `stop`; raises BrokenOff."""
        for tracker in self.trackers:
            if self.stopping and not self.live:
                break
            tracker.began()
            with contextlib.closing(_timed(tracker.source, self._busy)) as things:
                for thing, began, read in things:
                    for ready in self._ready(tracker, thing, began, read):
                        batcher.put(number, ready)
                    del thing, ready  # or two large images are in memory while one is read
                    if self._kept is not None:
                        self._kept.wait(lambda: self.stopping)
                    if self.stopping and not self.live:
                        break
            tracker.ended()
        batcher.end(number)

    def _ready(
        self, tracker: SourceTracker, thing: Frame | Notification, began: float, read: float
    ) -> Iterator[Item | Message]:
        if not isinstance(thing, Frame):
            yield Message(tracker, thing)
            return
        self._on_frame()
        tracker.captured()
        item = Item(tracker, thing, began, read)
        notification = self._prepare(item)
        if notification is not None:
            yield Message(tracker, notification)
        if self._kept is not None:
            self._kept.keep(item)
        yield item

    def _prepare(self, item: Item) -> Notification | None:
        notification = prepare(item, self._spec, self._busy)
        if not self._keep_images:
            item.frame = replace(item.frame, image=None)
        return notification


def prepare(
    item: Item, spec: Spec, busy: contextlib.AbstractContextManager[None]
) -> Notification | None:
    """Resize and check one image; `busy` is entered while it is checked."""
    frame, start = item.frame, time.perf_counter()
    if frame.image is None:
        item.error = frame.error or "the source gave neither an image nor a reason"
        return None
    item.error = frame.error
    item.image_size = (frame.image.shape[0], frame.image.shape[1])
    try:
        item.pixels, item.placement = _in_place(item, frame.image, spec)
    except (cv2.error, DataError) as error:
        why = f"cannot be resized ({error.err})" if isinstance(error, cv2.error) else error.message
        item.error = f"{frame.path or frame.source}: {why}"
        return None
    with busy:
        notification = item.tracker.check(item)
    if item.not_found is not None:
        item.pixels = None
        item.fault = item.fault or f"{NOT_FOUND}: {item.not_found}"
    item.preprocess = (time.perf_counter() - start) * 1000
    return notification


def _in_place(item: Item, image: NDArray[np.uint8], spec: Spec) -> Prepared:
    """The network's input; if the part is not found, the frame as it lies, for the checks only."""
    try:
        return bring_to_network(image, spec.image_size, spec.geometry)
    except PartNotFound as missing:
        item.not_found = missing.message
        return bring_to_network(image, spec.image_size, without_template(spec.geometry))


def _timed(
    source: Source, busy: Busy
) -> Generator[tuple[Frame | Notification, float, float], None, None]:
    """What a source gives, when its reading began, and how many milliseconds it took.

    For a camera reading begins when the image is there. Frees the source when closed. `busy` is
    for reading that should come to an end soon; waiting for a camera, or for whoever writes a list,
    need not.
    """
    live = isinstance(source, LiveSource)
    waits = live or getattr(source, "waits", False)
    things: Iterator[Frame | Notification] = (
        source.read() if isinstance(source, LiveSource) else iter(source)
    )
    try:
        while True:
            began = time.perf_counter()
            with contextlib.nullcontext() if waits else busy:
                thing = next(things, None)
            if thing is None:
                return
            now = time.perf_counter()
            if live:
                began = now
            if isinstance(thing, Frame) and thing.captured_at is not None:
                began = now - (time.monotonic() - thing.captured_at)
            yield thing, began, (now - began) * 1000
            del thing
    finally:
        close = getattr(things, "close", None)
        if close is not None:
            close()
