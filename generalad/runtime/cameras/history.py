"""`History`: the state of a source and how it got there."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from generalad.runtime.sources import State

_CHANGES_KEPT = 1000


@dataclass(frozen=True)
class Change:
    """A state was entered, or its reason changed.

    Attributes:
        state: the one that was entered.
        reason: why, on one line, without secrets.
        time: monotonic seconds.
    """

    state: State
    reason: str
    time: float


class History:
    """The state of a source, its reason and its changes; to be guarded by a lock."""

    def __init__(self, now: float) -> None:
        self.state, self.reason, self.since = State.CONNECTING, "", now
        self._changes: deque[Change] = deque(maxlen=_CHANGES_KEPT)
        self._unreported: deque[Change] = deque(maxlen=_CHANGES_KEPT)

    def enter(self, state: State, reason: str, now: float) -> bool:
        """Enter a state, or give another reason for it; False if that changes nothing."""
        if (state, reason) == (self.state, self.reason):
            return False
        if state != self.state:
            self.since = now
        self.state, self.reason = state, reason
        change = Change(state, reason, now)
        self._changes.append(change)
        self._unreported.append(change)
        return True

    @property
    def changes(self) -> tuple[Change, ...]:
        """The last 1000, oldest first."""
        return tuple(self._changes)

    def unreported(self) -> list[Change]:
        """The changes since the last call."""
        changes = list(self._unreported)
        self._unreported.clear()
        return changes
