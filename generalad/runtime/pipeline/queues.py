"""Queues between the threads of a run: `BoundedQueue` and, where all sources meet, `FairBatcher`.

`Turns` keeps the order where several threads work between two of them.

In a `FairBatcher` each reader thread has a bounded queue of its own, so that a fast one fills its
own queue and nothing else. Batches are taken from them in turn, one item from each that has one:
under load, all sources get the same share.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class BrokenOff(Exception):
    """The run was broken off: stop working."""


class BoundedQueue(Generic[T]):
    """Hands items from one thread to another in order, at most `capacity` waiting."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()
        self._ended = False
        self._broken = False

    def put(self, item: T) -> None:
        """Add an item, waiting while the queue is full; raises BrokenOff."""
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


class Turns:
    """Several threads take work one after another, and give what came of it in the same order."""

    def __init__(self) -> None:
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._taken = self._given = 0
        self._broken = False

    @contextlib.contextmanager
    def take(self) -> Iterator[int]:
        """Take some within this block, alone; yields the turn."""
        with self._taking:
            turn = self._taken
            self._taken += 1
            yield turn

    @contextlib.contextmanager
    def give(self, turn: int) -> Iterator[None]:
        """Give it within this block, when those before have; raises BrokenOff."""
        with self._changed:
            self._changed.wait_for(lambda: self._broken or self._given == turn)
            if self._broken:
                raise BrokenOff
        yield
        with self._changed:
            self._given += 1
            self._changed.notify_all()

    def break_off(self) -> None:
        """Wake all who wait for their turn with BrokenOff."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()


class FairBatcher(Generic[T]):
    """Several readers, each with a queue of its own; one consumer, who takes batches."""

    def __init__(
        self,
        capacities: Sequence[int],
        counts: Callable[[T], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """One queue for each of `capacities`.

        Args:
            capacities: how many items may wait in each queue.
            counts: whether an item takes a place in a batch; others are handed on with it.
            clock: for tests.
        """
        self._queues: list[deque[T]] = [deque() for _ in capacities]
        self._capacities = capacities
        self._open = set(range(len(capacities)))
        self._order = deque(range(len(capacities)))
        self._counts = counts
        self._clock = clock
        self._changed = threading.Condition()
        self._broken = False

    def put(self, reader: int, item: T) -> None:
        """Add an item, waiting while its queue is full; raises BrokenOff."""
        queue, capacity = self._queues[reader], self._capacities[reader]
        with self._changed:
            self._changed.wait_for(lambda: self._broken or len(queue) < capacity)
            if self._broken:
                raise BrokenOff
            queue.append(item)
            self._changed.notify_all()

    def end(self, reader: int) -> None:
        """Say that no further item comes from this reader; those waiting are still handed out."""
        with self._changed:
            self._open.discard(reader)
            self._changed.notify_all()

    def break_off(self) -> None:
        """Drop what is waiting and wake all sides with BrokenOff."""
        with self._changed:
            self._broken = True
            for queue in self._queues:
                queue.clear()
            self._changed.notify_all()

    def batch(self, size: int, max_wait: float | None) -> list[T]:
        """Take the next batch, waiting for its first item.

        Args:
            size: items that count.
            max_wait: seconds from the first item that a batch may wait to fill; None waits until it
                is full or nothing more can come.

        Returns:
            At least one item, in the order of each queue; none when all readers have ended. Items
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
                if done or not (self._open or any(self._queues)):
                    return taken
                rest = None if until is None else until - self._clock()
                if rest is not None and rest <= 0:
                    return taken
                self._changed.wait(rest)

    def _take(self, taken: list[T], room: int) -> int:
        """Move up to `room` counting items, one a queue and turn; returns how many."""
        counted = idle = 0
        while counted < room and idle < len(self._order):
            queue = self._queues[self._order[0]]
            self._order.rotate(-1)
            if not queue:
                idle += 1
                continue
            idle = 0
            taken.append(queue.popleft())
            counted += self._counts(taken[-1])
        if taken:
            self._changed.notify_all()
        return counted
