"""`Intake`: where the lanes of all sources meet, and batches are taken from them in turn.

Each lane has a bounded queue of its own, so that a fast one fills its own queue and nothing else.
Taking goes round the lanes, one item from each that has one: under load, all get the same share.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from generalad.runtime.flow.channel import BrokenOff

T = TypeVar("T")


class Intake(Generic[T]):
    """Several producers, each with its lane; one consumer, who takes batches."""

    def __init__(
        self,
        capacities: Sequence[int],
        counts: Callable[[T], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """One lane for each of `capacities`.

        Args:
            capacities: how many items may wait in each lane.
            counts: whether an item takes a place in a batch; others are handed on with it.
            clock: for tests.
        """
        self._lanes: list[deque[T]] = [deque() for _ in capacities]
        self._capacities = capacities
        self._open = set(range(len(capacities)))
        self._turns = deque(range(len(capacities)))
        self._counts = counts
        self._clock = clock
        self._changed = threading.Condition()
        self._broken = False

    def put(self, lane: int, item: T) -> None:
        """Add an item, waiting while its lane is full; raises BrokenOff."""
        queue, capacity = self._lanes[lane], self._capacities[lane]
        with self._changed:
            self._changed.wait_for(lambda: self._broken or len(queue) < capacity)
            if self._broken:
                raise BrokenOff
            queue.append(item)
            self._changed.notify_all()

    def end(self, lane: int) -> None:
        """Say that no further item comes on this lane; those waiting are still handed out."""
        with self._changed:
            self._open.discard(lane)
            self._changed.notify_all()

    def break_off(self) -> None:
        """Drop what is waiting and wake all sides with BrokenOff."""
        with self._changed:
            self._broken = True
            for queue in self._lanes:
                queue.clear()
            self._changed.notify_all()

    def batch(self, size: int, max_wait: float | None) -> list[T]:
        """Take the next batch, waiting for its first item.

        Args:
            size: items that count.
            max_wait: seconds from the first item that a batch may wait to fill; None waits until it
                is full or nothing more can come.

        Returns:
            At least one item, in the order of each lane; or none when all lanes have ended. Items
            that do not count never wait for others.

        Raises:
            BrokenOff: it was broken off.
        """
        taken: list[T] = []
        counted, until = 0, None
        with self._changed:
            while True:
                if self._broken:
                    raise BrokenOff
                counted += self._take(taken, size - counted)
                if taken and until is None:
                    until = None if max_wait is None else self._clock() + max_wait
                done = counted == size or (taken and not counted)
                if done or not (self._open or any(self._lanes)):
                    return taken
                rest = None if until is None else until - self._clock()
                if rest is not None and rest <= 0:
                    return taken
                self._changed.wait(rest)

    def _take(self, taken: list[T], room: int) -> int:
        """Move up to `room` counting items, one a lane and turn; returns how many."""
        counted = idle = 0
        while counted < room and idle < len(self._turns):
            queue = self._lanes[self._turns[0]]
            self._turns.rotate(-1)
            if not queue:
                idle += 1
                continue
            idle = 0
            taken.append(queue.popleft())
            counted += self._counts(taken[-1])
        if taken:
            self._changed.notify_all()
        return counted
