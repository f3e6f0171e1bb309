"""Of a queue: how much may wait in it (`Limits`), and what became of its messages (`Tally`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from generalad.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """How much may wait.

    Attributes:
        messages: number.
        bytes: of all payloads; the file is a little larger.
        unsaved_messages: number that may wait in memory while the file cannot be written.
        unsaved_bytes: the same, of their payloads.
    """

    messages: int = 10_000
    bytes: int = 64 << 20
    unsaved_messages: int = 1000
    unsaved_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if min(self.messages, self.bytes, self.unsaved_messages, self.unsaved_bytes) < 1:
            raise UsageError("the limits of a queue must be at least 1")


@dataclass(frozen=True)
class Tally:
    """What became of all messages; `promised == delivered + sum(dropped) + waiting` always holds.

    Attributes:
        promised: messages that were put, also by earlier processes.
        delivered: confirmed by the receiver.
        dropped: given up, by reason.
        waiting: in the queue.
        unsaved: those of them that are only in memory, because the file cannot be written.
    """

    promised: int
    delivered: int
    dropped: Mapping[str, int]
    waiting: int
    unsaved: int
