"""Camera faults: images that show no part, or not as the camera is to show it.

`Limits` says what an image may look like, learned from the calibration images, so that a dark
part is no dark camera. A single image beyond them is first of all a strange part: a label that
covers it, an empty nest. So `FaultDetector` refuses an image, which is not scored then, only on
evidence that no part could give: the image by itself (no light at all, another format), or that it
is one of several in a row, or frozen. What is strange is scored, and said.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.image_limits import Fault, FaultKind, Limits
from generalad.image_statistics import Statistics, statistics
from generalad.spec import Reference

__all__ = ["Fault", "FaultDetector", "FaultKind", "Limits"]

FROZEN_AFTER = 10.0
"""Seconds of equal images. Where nothing moves, H.264 and H.265 repeat an image exactly until
the next key frame, which cameras send every 1 to 4 seconds."""

RAISED_AFTER, CLEARED_AFTER = 3, 5
"""Bad images in a row that raise a fault, and good ones that clear it."""

RATE_WINDOW, RAISED_FROM, CLEARED_AT = 100, 10, 3
"""Bad ones of the latest images that raise a fault without a row, and that let it end."""


class Checked(NamedTuple):
    """What an image's check found.

    Attributes:
        fault: how it lies beyond what an image may look like.
        refused: whether that is the camera for certain, so that it is not to be scored.
        change: data of a notification of kind "fault" if there is something to be told.
        statistics: of the image.
    """

    fault: Fault | None
    refused: bool
    change: dict[str, Any] | None
    statistics: Statistics


class FaultDetector:
    """Watches the images of one stream, in one thread."""

    def __init__(self, reference: Reference | None, *, frozen_after: float = FROZEN_AFTER) -> None:
        """Watch a stream.

        Args:
            reference: what the artifact was calibrated on; without it only black and frozen
                images are recognised.
            frozen_after: seconds of exactly equal images, at least three, that are a fault.
        """
        self._limits = Limits(reference)
        self._frozen = _Frozen(frozen_after)
        self._state: FaultKind | None = None
        self._by_rate = False
        self._since = 0.0
        self._bad_since: float | None = None
        self._row: list[FaultKind | None] = []
        self._recent: deque[tuple[float, bool]] = deque(maxlen=RATE_WINDOW)

    @property
    def state(self) -> FaultKind | None:
        """The fault that is raised."""
        return self._state

    def check(
        self,
        pixels: NDArray[np.uint8],
        image_size: tuple[int, int],
        time: float,
        *,
        not_found: str | None = None,
    ) -> Checked:
        """Check the next image.

        Args:
            pixels: (H, W, 3) uint8 RGB, the network's input.
            image_size: (height, width) of the image before the resize.
            time: when it was taken, in seconds of a clock that runs evenly.
            not_found: why the part was not found in it; None where it was, or is not looked for.
        """
        found = statistics(pixels)
        frozen = self._frozen.check(pixels, found, time)
        fault = self._limits.fault(found, image_size) or frozen
        if not_found is not None:
            fault = Fault("not found", not_found) if fault is None else fault
            fault = fault._replace(certain=True)
        kind = fault.kind if fault else None
        self._row = [*self._row, kind][-CLEARED_AFTER:]
        if kind is None:
            self._bad_since = None
        elif self._bad_since is None:
            self._bad_since = self._frozen.since if kind == "frozen" else time
        if self._by_rate or self._state is None:
            self._recent.append((time, kind is not None))
        latest = self._row[-RAISED_AFTER:]
        in_a_row = len(latest) == RAISED_AFTER and None not in latest
        refused = fault is not None and (fault.certain or in_a_row)
        return Checked(fault, refused, self._judge(fault, refused, in_a_row, time), found)

    def _judge(
        self, fault: Fault | None, refused: bool, in_a_row: bool, time: float
    ) -> dict[str, Any] | None:
        if fault is None:
            return self._cleared(time)
        # Faults that take turns are one camera that is not usable: the first of them stays.
        stays = set(self._row[-RAISED_AFTER:]) == {fault.kind}
        if in_a_row and (self._state is None or (stays and fault.kind != self._state)):
            return self._raised(fault, time)
        if in_a_row:
            self._by_rate = False
        bad = sum(is_bad for _, is_bad in self._recent)
        if self._state is None and bad >= RAISED_FROM:
            return self._raised_by_rate(fault, bad)
        if self._state is not None:
            return None
        state = "refused" if refused else "strange"
        return {"state": state, "fault": fault.kind, "reason": fault.reason}

    def _raised(self, fault: Fault, time: float) -> dict[str, Any]:
        if self._state is None:
            self._since = time if self._bad_since is None else self._bad_since
        self._state, self._by_rate = fault.kind, False
        self._recent.clear()
        return {"state": "raised", "fault": fault.kind, "reason": fault.reason}

    def _raised_by_rate(self, fault: Fault, bad: int) -> dict[str, Any]:
        self._since = next(time for time, is_bad in self._recent if is_bad)
        self._state, self._by_rate = fault.kind, True
        share = f"{bad} of the last {len(self._recent)} images, the latest: {fault.reason}"
        return {
            "state": "raised",
            "fault": fault.kind,
            "reason": share,
            "share": bad / len(self._recent),
        }

    def _cleared(self, time: float) -> dict[str, Any] | None:
        if self._state is None or len(self._row) < CLEARED_AFTER or any(self._row):
            return None
        if self._by_rate and sum(is_bad for _, is_bad in self._recent) > CLEARED_AT:
            return None
        change = {"state": "cleared", "fault": self._state, "seconds": time - self._since}
        self._state, self._by_rate = None, False
        self._recent.clear()
        return change


class _Frozen:
    """Whether images have been exactly equal for some time."""

    def __init__(self, after: float) -> None:
        self._after = after
        self._last: tuple[Statistics, NDArray[np.uint8]] | None = None
        self.since = 0.0
        """When the first of the equal images was taken."""
        self._repeats = 0

    def check(self, pixels: NDArray[np.uint8], found: Statistics, time: float) -> Fault | None:
        last = self._last
        # The statistics differ first, nearly always: the pixels are rarely compared.
        if last is None or last[0] != found or not np.array_equal(last[1], pixels):
            # A copy, because cameras and programs use their memory again.
            self._last, self.since, self._repeats = (found, pixels.copy()), time, 0
            return None
        self._repeats += 1
        self.since = min(self.since, time)  # a clock that was set back
        seconds = time - self.since
        if seconds < self._after or self._repeats < 2:
            return None
        return Fault("frozen", f"exactly the same image for {seconds:.0f} s", certain=True)
