"""`Shadow`: another version sees what the one that serves sees, and both are compared.

    serving ── run ──► answers
                └────► a queue of few batches ──► the other version ──► counts

The other one never holds up the first: what comes while it is busy is left out and counted.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import GadError
from generalad.runtime.backends.session import Outputs
from generalad.serve.version import Version

LEAST = 100
"""Images that a comparison needs, however long it takes."""

MOST_MORE_ALARMS = 0.02
"""Share of the images that one version may call anomalous and the other not."""

_WAITING = 4
"""Batches."""

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]


class Shadow:
    """Compares until it is closed.

    Attributes:
        problem: why the other version could not score an image, or empty.
    """

    def __init__(self, serving: Version, other: Version) -> None:
        """Begin to listen."""
        self._serving, self._other = serving, other
        self._queue: queue.Queue[Batch | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._images = self._left_out = self._alarms = self._other_alarms = 0
        self._more = self._fewer = 0
        self.problem = ""
        self._thread = threading.Thread(target=self._work, name="gad-shadow", daemon=True)
        self._thread.start()
        serving.predictor.session.listener = self._heard

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    @property
    def enough(self) -> bool:
        """Whether it has seen what a comparison needs."""
        with self._lock:
            return self._images >= LEAST

    def objection(self) -> str:
        """Why the other version should not serve, or empty; its alarms are compared."""
        with self._lock:
            if self.problem or not self._images:
                return self.problem
            more, fewer = self._more / self._images, self._fewer / self._images
        if more > MOST_MORE_ALARMS:
            return f"{more:.1%} of the images would be new alarms, at most {MOST_MORE_ALARMS:.0%}"
        if fewer > MOST_MORE_ALARMS:
            return (
                f"{fewer:.1%} of the images would be alarms no more, at most {MOST_MORE_ALARMS:.0%}"
            )
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Counts for JSON."""
        with self._lock:
            return {
                "seconds": round(self.seconds, 1),
                "images": self._images,
                "left_out": self._left_out,
                "alarms": self._alarms,
                "other_alarms": self._other_alarms,
                "new_alarms": self._more,
                "alarms_no_more": self._fewer,
            }

    def close(self) -> None:
        """Listen no more; the other version stays open."""
        self._serving.predictor.session.listener = None
        while self._thread.is_alive():  # it may be full
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=0.1)
                break
        self._thread.join()

    def _heard(self, images: NDArray[np.uint8], outputs: Outputs) -> None:
        """In the thread that ran the network, so never waiting."""
        try:
            self._queue.put_nowait((images, outputs.scores))
        except queue.Full:
            with self._lock:
                self._left_out += len(images)

    def _work(self) -> None:
        while (batch := self._queue.get()) is not None:
            images, scores = batch
            try:
                others = self._other.predictor.session.run(images).scores
            except GadError as error:
                self.problem = error.message
                continue
            spec, other = self._serving.predictor.spec, self._other.predictor.spec
            alarms = scores >= spec.thresholds.image
            # Written so that NaN is an alarm.
            other_alarms = ~(others < other.thresholds.image)
            with self._lock:
                self._images += len(images)
                self._alarms += int(alarms.sum())
                self._other_alarms += int(other_alarms.sum())
                self._more += int((other_alarms & ~alarms).sum())
                self._fewer += int((alarms & ~other_alarms).sum())
