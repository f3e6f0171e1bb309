"""`KeptImages`: bounds the memory of images that are kept until they were drawn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from generalad.runtime.pipeline.tracker import Item

_MOST = 128 << 20
"""Bytes that may be kept while another image is read: some of 12 megapixels, none of 50."""


class KeptImages:
    """Counts the bytes of images between the thread that reads files and the writer's."""

    def __init__(self) -> None:
        self._bytes = 0
        self._changed = threading.Condition()

    def keep(self, item: Item) -> None:
        """Count an image that goes on its way."""
        with self._changed:
            self._bytes += _size(item)

    def let_go(self, item: Item) -> None:
        """Free an image that was written; others may still hold the item."""
        size = _size(item)
        item.frame = replace(item.frame, image=None)
        with self._changed:
            self._bytes -= size
            self._changed.notify_all()

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Wait until there is room for another image, or `stopped`."""
        with self._changed:
            while self._bytes > _MOST and not stopped():
                self._changed.wait(0.2)


def _size(item: Item) -> int:
    return 0 if item.frame.image is None else item.frame.image.nbytes
