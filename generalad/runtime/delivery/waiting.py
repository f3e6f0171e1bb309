"""`Waiting`: the messages of an outbox in their order, and which of them is given up first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A message without its content.

    Attributes:
        number: place in the queue.
        size: bytes of the payload.
        importance: 0, 1 or 2; the least important is given up first.
    """

    number: int
    size: int
    importance: int


class Waiting:
    """Entries by the id of their message; `bytes` is the sum of their sizes."""

    def __init__(self) -> None:
        self.bytes = 0
        self._entries: dict[str, Entry] = {}
        self._by_importance: list[dict[str, None]] = [{} for _ in range(3)]  # ids, oldest first

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id: str) -> bool:
        return id in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __getitem__(self, id: str) -> Entry:
        return self._entries[id]

    def add(self, id: str, entry: Entry) -> None:
        """Take one that is younger than all others."""
        self._entries[id] = entry
        self._by_importance[entry.importance][id] = None
        self.bytes += entry.size

    def remove(self, id: str) -> Entry:
        """Let one go."""
        entry = self._entries.pop(id)
        del self._by_importance[entry.importance][id]
        self.bytes -= entry.size
        return entry

    def first(self) -> str | None:
        """The oldest of all, or None."""
        heads = [next(iter(ids)) for ids in self._by_importance if ids]
        return min(heads, key=lambda id: self._entries[id].number, default=None)

    def least(self) -> Iterator[str]:
        """From the oldest of the least important to the youngest of the most important."""
        for ids in self._by_importance:
            yield from ids
