"""`Outbox`: a bounded queue of messages that survives the process, and knows what became of each.

Memory holds the order, the sizes and the counts; the file holds the payloads and a copy of the
rest. Every change is made in memory and then written, with whatever could not be written before:
while the disk is full nothing else changes but that some messages are only in memory.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from generalad.errors import GadError, StorageError
from generalad.runtime.delivery.limits import Limits, Tally
from generalad.runtime.delivery.message import IMPORTANCE, Message
from generalad.runtime.delivery.store import Store, damaged, reason
from generalad.runtime.delivery.waiting import Entry, Waiting

QUEUE_FULL = "queue full"
TOO_LARGE = "too large"
NOT_STORED = "not stored"
DAMAGED = "queue damaged"

_RETRY_SECONDS = 1.0  # between attempts to write while that fails
_AT_ONCE = 64  # messages a transaction; each needs room in the journal

# Names of the counts in the file; every message that is gone has one of the last two as its end.
_PROMISED = "promised"
_DELIVERED = "delivered"
_DROPPED = "dropped: "


class Outbox:
    """A queue for one sink. `changed` guards it and is notified of every change.

    Only opening and closing raise; in between, `problem` says what is wrong with the file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open or create the file, with its folder.

        Raises:
            StorageError: cannot be written.
            UsageError: in use by another process, or another kind of file.
        """
        self.changed = threading.Condition(threading.RLock())
        self.problem = ""
        self._limits = limits or Limits()
        self._clock = clock
        self._store = Store(Path(path))
        self._closed = False
        self._waiting = Waiting()
        self._unsaved: dict[str, Message] = {}
        self._unsaved_bytes = 0
        self._gone: dict[int, str] = {}  # to be removed from the file, with how they ended
        self._if_killed: dict[str, Message] = {}
        self._wills_saved = True
        self._taken: str | None = None
        self._failed_at: float | None = None
        self._load()

    def _load(self) -> None:
        self._counts = Counter(self._store.counts())
        for row in self._store.messages():
            self._waiting.add(row.id, Entry(row.number, row.size, IMPORTANCE[row.kind]))
        self._next_number = 1 + max((self._waiting[id].number for id in self._waiting), default=0)
        with self.changed:
            self._make_room()  # limits may be smaller than last time
            self._save(durable=False)
            left = self._store.wills()
            self._if_killed = {
                message.id: message for message in left
            }  # each stays until it is put
            for message in left:
                self.put(message)

    @property
    def name(self) -> str:
        """Lasting name of this queue, 23 letters and digits."""
        return self._store.name

    @property
    def moved_aside(self) -> Path | None:
        """Where a damaged file was moved to; what waited in it is lost, its number not known."""
        return self._store.moved_aside

    @property
    def tally(self) -> Tally:
        """All counts of one moment."""
        with self.changed:
            dropped = {
                name.removeprefix(_DROPPED): number
                for name, number in self._counts.items()
                if name.startswith(_DROPPED)
            }
            return Tally(
                self._counts[_PROMISED],
                self._counts[_DELIVERED],
                dropped,
                len(self._waiting),
                len(self._unsaved),
            )

    def put(self, message: Message, *, if_killed: Message | None = None) -> None:
        """Return when the message is on disk, in memory while the disk is full, or dropped.

        One that waits already, by its id, is kept once. `if_killed` is put when the file is opened
        again, unless it has been put before: what is to be said in place of a killed process.
        """
        with self.changed:
            if self._closed:
                return
            if self._if_killed.pop(message.id, None) is not None:
                self._wills_saved = False
            if message.id in self._waiting:
                return
            if if_killed is not None:
                self._if_killed[if_killed.id] = if_killed
                self._wills_saved = False
            self._counts[_PROMISED] += 1
            size = len(message.payload)
            if size > self._limits.bytes:
                self._counts[_DROPPED + TOO_LARGE] += 1
            else:
                self._waiting.add(
                    message.id, Entry(self._next_number, size, IMPORTANCE[message.kind])
                )
                self._next_number += 1
                self._unsaved[message.id] = message
                self._unsaved_bytes += size
                self._make_room()
            self._save(durable=True)
            self.changed.notify_all()

    def drop(self, reason: str) -> None:
        """Count a message that was never put."""
        with self.changed:
            self._counts[_PROMISED] += 1
            self._counts[_DROPPED + reason] += 1
            self._save(durable=False)

    def next(self) -> Message | None:
        """The oldest message, or None; it stays until it is `delivered`, `refused` or `released`.

        Until then it is not dropped to make room.
        """
        with self.changed:
            while not self._closed and (first := self._waiting.first()) is not None:
                try:
                    message = self._read(first)
                except sqlite3.Error as error:
                    if not self._repaired(error):
                        return None
                    continue
                self._taken = first
                return message
            return None

    def delivered(self, id: str) -> None:
        """The receiver has confirmed it."""
        with self.changed:
            if self._leave(id, _DELIVERED):
                self._save(durable=False)
                self.changed.notify_all()

    def refused(self, id: str, reason: str) -> None:
        """It is given up, for a reason that is counted: one of few, not a message's own."""
        with self.changed:
            if self._leave(id, _DROPPED + reason):
                self._save(durable=False)
                self.changed.notify_all()

    def released(self, id: str) -> None:
        """It could not be delivered and waits again, as the first one."""
        with self.changed:
            if self._taken == id:
                self._taken = None

    def save(self) -> None:
        """Write what could not be written before, if it is time to try again."""
        with self.changed:
            if self._failed_at is not None:
                self._save(durable=True)

    def close(self) -> None:
        """Write what is left and let go of the file.

        Raises:
            StorageError: messages or counts could not be written and are lost with the process.
        """
        with self.changed:
            if self._closed:
                return
            self._failed_at = None
            self._save(durable=True)
            self._closed = True
            self._store.close()
            self.changed.notify_all()
            if self.problem:
                lost = f"{len(self._unsaved)} messages that waited are lost"
                again = "some messages may be delivered again"
                raise StorageError(
                    f"{self.problem}; {lost if self._unsaved else again}",
                    remedy="free some space or choose another place",
                )

    # Order and room

    def _leave(self, id: str, end: str) -> bool:
        """Remove a message from memory and, later, from the file; False if it is not there."""
        if self._closed or id not in self._waiting:
            return False
        entry = self._waiting.remove(id)
        self._counts[end] += 1
        if self._taken == id:
            self._taken = None
        if self._unsaved.pop(id, None) is None:
            self._gone[entry.number] = end
        else:
            self._unsaved_bytes -= entry.size
        return True

    def _victim(self, *, unsaved: bool = False) -> str | None:
        """What is given up first, of all or of what is only in memory."""
        some = (id for id in self._waiting.least() if not unsaved or id in self._unsaved)
        return next((id for id in some if id != self._taken), None)

    def _make_room(self) -> None:
        limits = self._limits
        while len(self._waiting) > limits.messages or self._waiting.bytes > limits.bytes:
            victim = self._victim()
            if victim is None or not self._leave(victim, _DROPPED + QUEUE_FULL):
                return  # only the one that is being delivered is left

    def _make_memory(self) -> None:
        limits = self._limits
        while (
            len(self._unsaved) > limits.unsaved_messages
            or self._unsaved_bytes > limits.unsaved_bytes
        ):
            victim = self._victim(unsaved=True)
            if victim is None or not self._leave(victim, _DROPPED + NOT_STORED):
                return

    # The file

    def _read(self, id: str) -> Message:
        return self._unsaved.get(id) or self._store.message(self._waiting[id].number)

    def _save(self, *, durable: bool) -> None:
        if self._closed:
            return
        if self._failed_at is None or self._clock() >= self._failed_at + _RETRY_SECONDS:
            for _ in range(2):  # once more when a damaged file was replaced
                try:
                    self._write(durable=durable)
                except (sqlite3.Error, OSError) as error:
                    if self._repaired(error):
                        continue
                break
        self._make_memory()

    def _write(self, *, durable: bool) -> None:
        durable = durable or self._failed_at is not None
        self._write_some(durable=durable)
        while self._gone or self._unsaved:
            self._write_some(durable=durable)
        self._failed_at = None
        self.problem = ""

    def _write_some(self, *, durable: bool) -> None:
        """One transaction, after which the counts in the file agree with the messages in it."""
        gone = list(self._gone)[:_AT_ONCE]
        new = list(self._unsaved)[:_AT_ONCE]
        counts = self._counts.copy()
        counts[_PROMISED] -= len(self._unsaved) - len(new)
        counts.subtract(list(self._gone.values())[len(gone) :])
        # With the last of the messages, so that no end is left for a beginning that is not there.
        last = len(gone) == len(self._gone) and len(new) == len(self._unsaved)
        wills = None if self._wills_saved or not last else list(self._if_killed.values())
        self._store.write(
            gone=gone,
            new={self._waiting[id].number: self._unsaved[id] for id in new},
            counts=counts,
            wills=wills,
            durable=durable,
        )
        self._wills_saved = self._wills_saved or wills is not None
        for number in gone:
            del self._gone[number]
        for id in new:
            self._unsaved_bytes -= len(self._unsaved.pop(id).payload)

    def _repaired(self, error: Exception) -> bool:
        """After an error of the file: whether there is an empty one to go on with."""
        self._failed_at = self._clock()
        self.problem = f"cannot write {self._store.path}: {reason(error)}"
        if not damaged(error):
            return False
        try:
            self._store.start_anew()
        except GadError as failure:
            self.problem = failure.message
            return False
        for id in [id for id in self._waiting if id not in self._unsaved]:
            self._leave(id, _DROPPED + DAMAGED)
        self._gone.clear()
        self._wills_saved = False
        self._failed_at, self.problem = None, ""
        return True
