"""`Sink`: what a place for results implements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from generalad.decision import Result
from generalad.runtime.sources import Frame, Source
from generalad.spec import Spec

Map = NDArray[np.float32]


class Sink(Protocol):
    """Takes the results of one run in the order of the frames, in one thread.

    One that also has `notification` takes notifications too, see
    `runtime.notification.TakesNotifications`.
    """

    needs_image: bool
    """Whether `write` needs `Frame.image`; without it memory is freed earlier."""

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Prepare for a run; raises StorageError or UsageError before any work is done."""

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Take one result; the map (h, w) is None where there is no score."""

    def close(self, *, complete: bool) -> None:
        """End the run; called once after `open`. Not complete: the run broke off on an error."""
