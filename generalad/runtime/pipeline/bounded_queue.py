"""A bounded queue between two threads that can be ended and broken off."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class BrokenOff(Exception):
    """The channel was broken off: stop working."""


class BoundedQueue(Generic[T]):
    """Hands items from one thread to another in order, at most `capacity` waiting."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()
        self._ended = False
        self._broken = False

    def put(self, item: T) -> None:
        """Add an item, waiting while the channel is full; raises BrokenOff."""
        with self._changed:
            self._changed.wait_for(lambda: self._broken or len(self._items) < self._capacity)
            if self._broken:
                raise BrokenOff
            self._items.append(item)
            self._changed.notify_all()

    def end(self) -> None:
        """Say that no further item comes; those waiting are still handed out."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def break_off(self) -> None:
        """Drop what is waiting and wake both sides with BrokenOff."""
        with self._changed:
            self._broken = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Yield items until the end; raises BrokenOff."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._broken or self._ended or self._items)
                if self._broken:
                    raise BrokenOff
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
