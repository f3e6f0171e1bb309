"""`Batcher`: images of several requests share a run of the network.

    requests: decode, resize ──► waiting images ──► one thread: batches ──► predictions

A batch is what waits when the network is free. It waits for more only while other images are being
decoded, and never longer than `max_wait` since its first image came.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from generalad.prediction import Prediction
from generalad.predictor import Prepared

Score = Callable[[Sequence[Prepared]], Iterable[Prediction]]


class Closed(Exception):
    """The model was exchanged meanwhile; take the new one."""


class BatcherCounts(NamedTuple):
    """What a batcher has done so far.

    Attributes:
        images: that were scored.
        runs: of the network.
        seconds: that these took.
        busy: seconds that the present run has taken, 0 where there is none.
        waiting: images.
    """

    images: int
    runs: int
    seconds: float
    busy: float
    waiting: int


class Batcher:
    """Runs a network in a thread of its own, on images that come from many."""

    def __init__(self, score: Score, *, size: int, max_wait: float, name: str) -> None:
        """Start the thread.

        Args:
            score: gives the predictions of images, in their order.
            size: most images of a run.
            max_wait: seconds.
            name: of the thread.
        """
        self._score, self._size, self._max_wait = score, size, max_wait
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, Prepared, Future[Prediction]]] = deque()
        self._coming = 0
        self._closed = False
        self._images = self._runs = 0
        self._seconds = 0.0
        self._began: float | None = None
        self._thread = threading.Thread(target=self._work, name=f"gad-{name}", daemon=True)
        self._thread.start()

    def coming(self, images: int) -> None:
        """Say that images are being decoded; negative when they are, or are not to come."""
        with self._changed:
            self._coming += images
            self._changed.notify_all()

    def submit(self, image: Prepared) -> Future[Prediction]:
        """Have an image scored; one whose future is cancelled in time is left out.

        Raises:
            Closed: no further image is taken.
        """
        future: Future[Prediction] = Future()
        with self._changed:
            if self._closed:
                raise Closed
            self._waiting.append((time.monotonic(), image, future))
            self._changed.notify_all()
        return future

    def counts(self) -> BatcherCounts:
        """What was done so far, from any thread."""
        with self._changed:
            busy = 0.0 if self._began is None else time.monotonic() - self._began
            return BatcherCounts(self._images, self._runs, self._seconds, busy, len(self._waiting))

    def close(self) -> None:
        """Take no further image, score those that wait, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            images = [image for image, _ in batch]
            with self._changed:
                self._began = time.monotonic()
            try:
                found = list(self._score(images))
            except Exception as error:  # each request is told; the next batch is tried
                for _, future in batch:
                    future.set_exception(error)
            else:
                for (_, future), prediction in zip(batch, found, strict=True):
                    future.set_result(prediction)
            with self._changed:
                assert self._began is not None
                self._seconds += time.monotonic() - self._began
                self._began = None
                self._runs += 1
                self._images += len(batch)

    def _next(self) -> list[tuple[Prepared, Future[Prediction]]]:
        """The next batch; empty at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return []
                until = self._waiting[0][0] + self._max_wait
                self._changed.wait_for(self._full, timeout=max(0.0, until - time.monotonic()))
                batch: list[tuple[Prepared, Future[Prediction]]] = []
                while self._waiting and len(batch) < self._size:
                    _, image, future = self._waiting.popleft()
                    if future.set_running_or_notify_cancel():
                        batch.append((image, future))
                if batch:
                    return batch

    def _full(self) -> bool:
        return self._closed or not self._coming or len(self._waiting) >= self._size
