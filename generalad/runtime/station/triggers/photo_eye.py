"""`PhotoEye`: sees in the pictures of a free-running camera when a part enters an area.

The area is compared with how it looks empty. A part begins when the share of changed pixels reaches
`enter`, and is gone when it falls to `leave`: hysteresis, so that one part is one trigger.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.areas import Areas
from generalad.errors import UsageError
from generalad.preprocess import resize
from generalad.progress import Log
from generalad.runtime.sources import Frame

_SIDE = 64
"""Pixels of the longer side at which the area is looked at."""

_LEARN = 25
"""Frames whose median is the empty area, where no picture of it is given."""

_CHANGED = 24
"""Grey values of 255 by which a pixel has changed: above the noise of a camera."""

_FOLLOW = 0.02
"""Share of an empty frame that the remembered one takes on, so that it follows the light."""


class PhotoEye:
    """Looks at every frame of one camera, in order."""

    def __init__(
        self,
        area: Areas,
        *,
        enter: float = 0.3,
        leave: float = 0.1,
        longest: float = 10.0,
        empty: NDArray[np.uint8] | None = None,
        log: Log | None = None,
    ) -> None:
        """Nothing has been seen.

        Args:
            area: polygons that a part is to enter; (x, y) in shares of the image.
            enter: share of changed pixels of the area at which a part begins.
            leave: share at which it is gone; less than `enter`.
            longest: seconds that a part takes at most. After that the light has changed or
                something lies there: it is said, and the area is learned anew.
            empty: (H, W, 3) uint8 RGB, the area without a part; None learns it from the first 25
                frames, most of which must show it empty.
            log: told when the area is learned anew.

        Raises:
            UsageError: a number out of range.
        """
        if not (0 <= leave < enter <= 1 and longest > 0):
            raise UsageError(
                f"photo-eye: expected 0 <= leave < enter <= 1 and longest above 0, found leave"
                f" {leave:g}, enter {enter:g}, longest {longest:g}"
            )
        self._area, self._enter, self._leave, self._longest = area, enter, leave, longest
        self._log = log
        self._first: deque[NDArray[np.float32]] = deque(maxlen=_LEARN)
        self._background = None if empty is None else _small(empty)
        self._since: float | None = None
        self.share = 0.0
        """Of changed pixels in the last frame."""

    def __call__(self, frame: Frame) -> bool:
        """Whether a part begins with this frame."""
        if frame.image is None:
            return False
        seen, now = _small(frame.image), frame.captured_at or frame.time
        if self._background is None or self._background.shape != seen.shape:
            self._learn(seen)
            return False
        changed = np.abs(seen - self._background) > _CHANGED
        self.share = float(changed[self._area.mask(changed.shape)].mean())
        if self._since is None:
            if self.share >= self._enter:
                self._since = now
                return True
            self._background += _FOLLOW * (seen - self._background)
        elif self.share <= self._leave:
            self._since = None
        elif now - self._since > self._longest:
            self._say(f"photo-eye: covered for {self._longest:g} s; the empty area is learned anew")
            self._background, self._since = None, None
        return False

    def _learn(self, seen: NDArray[np.float32]) -> None:
        if self._first and self._first[0].shape != seen.shape:
            self._first.clear()
        self._first.append(seen)
        if len(self._first) == _LEARN:
            self._background = np.median(np.stack(self._first), axis=0).astype(np.float32)
            self._first.clear()

    def _say(self, text: str) -> None:
        if self._log is not None:
            self._log(text)


def _small(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(h, w) float32 grey values, `_SIDE` at the longer side."""
    scale = _SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    return np.asarray(cv2.cvtColor(resize(image, size), cv2.COLOR_RGB2GRAY), np.float32)
