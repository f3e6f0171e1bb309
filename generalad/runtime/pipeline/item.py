"""What travels through the pipeline: a frame with what becomes known of it, or a notification."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generalad.image_statistics import Statistics
from generalad.runtime.line.monitor import Monitor
from generalad.runtime.notification import Notification
from generalad.runtime.sources import Frame


@dataclass(eq=False)
class Item:
    """A frame on its way.

    `began` is when its reading began, or when a camera gave it, in seconds of `time.perf_counter`;
    `read`, `preprocess` and `infer` are in milliseconds.
    """

    monitor: Monitor
    frame: Frame
    began: float
    read: float
    image_size: tuple[int, int] = (0, 0)
    preprocess: float = 0.0
    infer: float = 0.0
    error: str | None = None
    fault: str | None = None
    statistics: Statistics | None = None
    pixels: NDArray[np.uint8] | None = None
    score: float = 0.0
    map: NDArray[np.float32] | None = None


@dataclass(eq=False)
class Message:
    """A notification on its way, in order with the frames of its stream."""

    monitor: Monitor
    notification: Notification


def takes_a_place(thing: Item | Message) -> bool:
    """Whether it takes a place in a batch."""
    return isinstance(thing, Item) and thing.pixels is not None
