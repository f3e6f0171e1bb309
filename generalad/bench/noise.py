"""How much of what was measured is the machine's noise, and what it comes from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from generalad.bench.interleaved import Recording
from generalad.bench.worker_process import Block

NOISY = 0.10
"""Median relative difference of neighbouring blocks of one side, above which a machine is noisy."""

WAITING = 0.10  # share of the time without a core, above which it is worth a word
STOLEN = 0.02  # the same of what the host of a virtual machine took


class Ticks(NamedTuple):
    """Processor time of the whole machine so far, and what the host took of it."""

    total: int
    stolen: int


def ticks(path: Path = Path("/proc/stat")) -> Ticks | None:
    """Read the counters; None where the system has none."""
    try:
        values = [int(word) for word in path.read_text(encoding="ascii").split()[1:9]]
        return Ticks(sum(values), values[7])
    except (OSError, ValueError, IndexError):
        return None


def noise(recordings: Sequence[Recording]) -> float | None:
    """The largest over the sides; None where there are too few blocks."""
    found = [neighbours_differ(recording.own_medians()["total"]) for recording in recordings]
    return max((value for value in found if value is not None), default=None)


def neighbours_differ(values: Sequence[float]) -> float | None:
    """Median relative difference of values that follow each other; None of fewer than two."""
    array = np.asarray(values, float)
    if len(array) < 2:
        return None
    return float(np.median(np.abs(np.diff(array)) / ((array[1:] + array[:-1]) / 2)))


def waiting(blocks: Sequence[Block]) -> float | None:
    """Share of the time that the side stood ready without a core; None where nobody knows."""
    waits = [sum(block.waits["total"]) for block in blocks if block.waits is not None]
    if len(waits) < len(blocks):
        return None
    return min(1.0, sum(waits) / sum(sum(block.times["total"]) for block in blocks))


def notes(recordings: Sequence[Recording], before: Ticks | None, after: Ticks | None) -> list[str]:
    """What a reader should know of the machine's noise, one sentence each."""
    found, differ = [], noise(recordings)
    if differ is not None and differ > NOISY:
        load = ""
        with contextlib.suppress(AttributeError, OSError):  # Windows
            load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        found.append(
            f"this machine is noisy: neighbouring blocks of the same side differ by {differ:.0%}"
            f" (median){load}; --threads 1 is disturbed less"
        )
    waits = [value for r in recordings if (value := waiting(r.blocks)) is not None]
    if not waits:
        found.append(
            "this system does not tell how long a program waits for a core, so ratios are with that"
            " waiting; on a busy machine they need more time"
        )
    elif max(waits) > WAITING:
        found.append(
            f"other programs had the cores for {max(waits):.0%} of the time; ratios are of the time"
            " without that waiting, quantiles are with it"
        )
    if before and after and after.total > before.total:
        stolen = (after.stolen - before.stolen) / (after.total - before.total)
        if stolen > STOLEN:
            found.append(f"the host took {stolen:.0%} of this virtual machine's processor time")
    return found
