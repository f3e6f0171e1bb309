"""What is looked at between the turns: reference kernels, and the memory of a long run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from generalad.bench.reference import run_references


class Beside:
    """Called before each turn, with the ids of the workers' processes.

    Attributes:
        references: milliseconds of the reference kernels, one entry a turn, if they are wanted.
        megabytes: present memory of the first process, one value a turn, if it is wanted and the
            system tells it.
    """

    def __init__(self, *, threads: int | None, references: bool, memory: bool) -> None:
        self._threads, self._wants_references, self._wants_memory = threads, references, memory
        self.references: list[dict[str, float]] = []
        self.megabytes: list[float] = []

    def __call__(self, pids: Sequence[int]) -> None:
        """Look."""
        if self._wants_references:
            self.references.append(run_references(self._threads))
        if self._wants_memory and (value := _resident(pids[0])) is not None:
            self.megabytes.append(value)


def _resident(pid: int) -> float | None:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None
