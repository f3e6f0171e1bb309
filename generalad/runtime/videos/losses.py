"""Which frames of a video are damaged, build on a damaged one, or never come out of a decoder."""

from __future__ import annotations

_MOST_DELAYED = 20
"""Packets by which a frame may be shown after others that were stored behind it."""


class Losses:
    """Packets that a decoder refused, and what follows from them; packets are numbered."""

    def __init__(self) -> None:
        self._since: int | None = None  # the first bad packet since a key frame
        self._missing: list[tuple[int, float | None]] = []

    def lose(self, number: int, stamp: float | None) -> None:
        """A packet brings no frame; `stamp` is when that was to be shown, in seconds."""
        self._build_on(number)
        self._missing.append((number, stamp))

    def is_whole(self, number: int, *, key_frame: bool, corrupt: bool) -> bool:
        """Whether the frame of a packet, and all that it builds on, is there."""
        if corrupt:
            self._build_on(number)
            return False
        if self._since is not None and number > self._since and key_frame:
            self._since = None
        return self._since is None or number < self._since

    def shown_before(self, number: int, stamp: float | None) -> list[float | None]:
        """Stamps of missing frames that come before the frame of a packet; each is given once."""
        gone = [
            (lost, when)
            for lost, when in self._missing
            if stamp is None or when is None or when < stamp or lost < number - _MOST_DELAYED
        ]
        self._missing = [entry for entry in self._missing if entry not in gone]
        return sorted((when for _, when in gone), key=lambda when: -1.0 if when is None else when)

    def rest(self) -> list[float | None]:
        """Stamps of the missing frames that no frame followed."""
        return self.shown_before(0, None)

    def _build_on(self, number: int) -> None:
        self._since = number if self._since is None else min(self._since, number)
