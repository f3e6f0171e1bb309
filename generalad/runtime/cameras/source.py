"""`FramesAlone`: what live sources share when somebody iterates over one outside of `infer`."""

from __future__ import annotations

from collections.abc import Iterator

from generalad.runtime.notification import Notification
from generalad.runtime.sources import Frame


class FramesAlone:
    """Makes a live source a plain one: its frames without the notifications."""

    def read(self) -> Iterator[Frame | Notification]:
        """See `LiveSource`."""
        raise NotImplementedError

    def settle(self, frame: Frame, *, dropped: str | None) -> None:
        """See `LiveSource`."""
        raise NotImplementedError

    def count(self) -> int | None:
        """Not known."""
        return None

    def __iter__(self) -> Iterator[Frame]:
        """Each frame counts as processed when the next one is asked for."""
        for thing in self.read():
            if isinstance(thing, Frame):
                yield thing
                self.settle(thing, dropped=None)
