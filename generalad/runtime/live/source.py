"""`FramesAlone`: what live sources share when somebody iterates over one outside of `infer`."""

from __future__ import annotations

from collections.abc import Iterator

from generalad.runtime.sources import Frame
from generalad.runtime.streams.notice import Notice


class FramesAlone:
    """Makes a live source a plain one: its frames without the notices."""

    def read(self) -> Iterator[Frame | Notice]:
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
