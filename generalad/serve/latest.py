"""`Latest`: the newest image, scores and notifications of each stream, for the page; a sink."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.decision import Result
from generalad.overlay import draw
from generalad.runtime.notification import Notification
from generalad.runtime.sinks.overlays import encode
from generalad.runtime.sources import Frame, Source
from generalad.spec import Spec

SCORES = 300
"""Of each stream."""

NOTICES = 200
_LONGEST_SIDE = 960
"""Pixels of a picture for the page."""


class _Shown(NamedTuple):
    image: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32] | None


class Latest:
    """Takes results in the writer's thread; asked by others."""

    needs_image = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: dict[str, _Shown] = {}
        self._scores: dict[str, deque[tuple[float, float, bool]]] = {}
        self._notices: deque[dict[str, Any]] = deque(maxlen=NOTICES)
        self._hours: Counter[tuple[int, str, str]] = Counter()
        self._spec: Spec | None = None

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """A run begins, perhaps of another version."""
        with self._lock:
            self._spec = spec

    def write(self, frame: Frame, result: Result, anomaly_map: NDArray[np.float32] | None) -> None:
        """Take one result."""
        with self._lock:
            if frame.image is not None:
                self._shown[frame.source] = _Shown(frame.image, anomaly_map)
            self._count(frame.source, "images" if result.score is not None else "not scored")
            if result.score is not None:
                scores = self._scores.setdefault(frame.source, deque(maxlen=SCORES))
                scores.append((frame.time, result.score, bool(result.anomalous)))
            if result.anomalous:
                self._count(frame.source, "anomalous")

    def notification(self, notification: Notification) -> None:
        """Take one notification."""
        found = notification.to_dict()
        with self._lock:
            self._notices.appendleft(found)
            began = found.get("phase") == "begin" or found.get("state") in ("raised", "drifting")
            if notification.kind != "camera" and began:
                self._count(notification.stream, f"{notification.kind}s")

    def close(self, *, complete: bool) -> None:
        """A run ends; what it left is still shown."""

    def scores(self, stream: str) -> list[list[float | bool]]:
        """Time, raw score and decision of the last frames."""
        with self._lock:
            return [list(each) for each in self._scores.get(stream, ())]

    def notices(self) -> list[dict[str, Any]]:
        """Newest first."""
        with self._lock:
            return list(self._notices)

    def hours(self) -> dict[tuple[int, str, str], int]:
        """Counts by hour since 1970, stream, and what was counted; those so far are taken away."""
        with self._lock:
            found, self._hours = dict(self._hours), Counter()
            return found

    def picture(self, stream: str, *, overlay: bool) -> bytes | None:
        """The newest image as JPEG, with its map over it or not; None before the first one."""
        with self._lock:
            shown, spec = self._shown.get(stream), self._spec
        if shown is None or spec is None:
            return None
        image = _smaller(shown.image)
        if overlay and shown.anomaly_map is not None:
            image = draw(image, shown.anomaly_map, spec)
        return encode(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 80])

    def _count(self, stream: str, what: str) -> None:
        self._hours[int(time.time()) // 3600, stream, what] += 1


def _smaller(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    share = _LONGEST_SIDE / max(height, width)
    if share >= 1:
        return image
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
