"""`Exchange`: a handshake through the memory of a PLC that the station reads and writes.

The PLC may lose its memory, the connection may break at any request, with the request done or not
done, and another process may have been here before.
"""

from __future__ import annotations

from typing import Protocol

from generalad.runtime.station.plc.handshake import Handshake
from generalad.runtime.station.plc.registers import (
    WordOrder,
    command_values,
    station_registers,
)
from generalad.runtime.station.plc.signals import (
    COMMANDS,
    RESULT_END,
    STATION,
    STATUS_WORD,
    VALID,
)

_HEARTBEAT = STATUS_WORD - 1


class Memory(Protocol):
    """Registers in a PLC, counted from the base address; used by one thread.

    Every method but `close` raises Unavailable, after which comes `connect` again.
    """

    @property
    def name(self) -> str:
        """Kind and address, without secrets."""

    def connect(self) -> None:
        """Connect anew, whatever was before."""

    def read(self, register: int, count: int) -> list[int]:
        """So many words from a register on, all of one moment."""

    def write(self, register: int, words: list[int]) -> None:
        """Return when the PLC has confirmed the words."""

    def close(self) -> None:
        """Free everything; raises nothing."""


class Exchange:
    """Used by one thread; `meet` after every connect, then `look` and `write` in turn."""

    def __init__(self, memory: Memory, handshake: Handshake, order: WordOrder = "big") -> None:
        self._memory = memory
        self._handshake = handshake
        self._order: WordOrder = order
        self._there: list[int] = []  # what stands in the PLC, as far as is known
        self._beats: set[int] = set()  # heartbeats of ours that may stand there

    def meet(self) -> None:
        """Find out what the PLC still knows, after a loss of either side; raises Unavailable."""
        self._there = self._memory.read(STATION.start, len(STATION))
        if self._beats and self._there[_HEARTBEAT] not in self._beats:
            self._handshake.plc_restarted()

    def look(self) -> None:
        """Read the PLC's commands and answer them; raises Unavailable."""
        words = self._memory.read(COMMANDS.start, len(COMMANDS))
        self._handshake.look(command_values(words, self._order))

    def write(self) -> None:
        """Write what has changed: one block, the word with the bits last; raises Unavailable."""
        words = station_registers(self._handshake.signals(), self._order)
        if words == self._there:
            return
        status = self._there[STATUS_WORD]
        if status & VALID and words[:RESULT_END] != self._there[:RESULT_END]:
            # Left by another process, or results that are not acknowledged.
            self._memory.write(STATUS_WORD, [status & ~VALID])
            self._there[STATUS_WORD] = status & ~VALID
        self._beats = {self._there[_HEARTBEAT], words[_HEARTBEAT]}
        self._memory.write(STATION.start, words)
        self._there = words
