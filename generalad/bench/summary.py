"""From recordings to the record: a side, its throughput, a long run's slopes, notes on noise."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.bench.comparison import runs
from generalad.bench.interleaved import Recording, warm_up
from generalad.bench.machine import Sensors, energy_between, read_sensors
from generalad.bench.report import STAGES, Side, Soak, Throughput, Times
from generalad.bench.worker_process import Block, RunOptions, Subject, WorkerProcess
from generalad.errors import UsageError
from generalad.files import sha256_of_file
from generalad.progress import Progress
from generalad.statistics import Estimate, clustered_quantile, median_estimate, slope

SESSIONS = (1, 2)  # sessions side by side, in which throughput is measured

WINDOWS, WINDOW = 8, 0.25
"""Of each throughput, and the seconds of each."""

SOAK_POINTS = 120  # points of a soak's regression, each the median of its share of the run
SOAK_SKIPPED = 0.1  # share of a soak at its beginning, in which memory is still being claimed
SOAK_LEAST = 10  # blocks of a soak that has a slope at all
HOUR = 3600.0


NOISY = 0.10
"""Median relative difference of neighbouring blocks of one side, above which a machine is noisy."""

WAITING = 0.10  # share of the time without a core, above which it is worth a word
STOLEN = 0.02  # the same of what the host of a virtual machine took


class Ticks(NamedTuple):
    """Processor time of the whole machine so far, and what the host took of it."""

    total: int
    stolen: int


class Saturated(NamedTuple):
    """What a side does when images never end."""

    rates: tuple[Throughput, ...] = ()  # at each batch size, of one session and of two side by side
    energy: float | None = None  # joules an image, of one session and the first batch size


def side_of(recording: Recording, saturated: Saturated | None = None) -> Side:
    """Sum up a recording, and the throughput where it was measured.

    Interleaved sides have no energy: counters are renewed too seldom to tell blocks apart.
    """
    blocks, facts, subject = recording.blocks, recording.facts, recording.subject
    sensors, rates = recording.sensors or Sensors(0.0), saturated or Saturated()
    is_left_out = saturated is None
    return Side(
        name=subject.name,
        sha256=sha256_of_file(subject.artifact),
        precision=facts.precision,
        backend=facts.backend,
        revision=subject.revision,
        stages={
            stage: times_of(runs(recording, stage)) for stage in STAGES if stage in blocks[0].times
        },
        throughput=rates.rates,
        gpu_memory=sensors.gpu_memory,
        energy=rates.energy,
        temperature=sensors.temperature,
        missing=tuple(
            line for line in sensors.missing if not (is_left_out and line.startswith("energy"))
        ),
        load=median_estimate([opening.load for opening in recording.openings]),
        cold=median_estimate([opening.cold for opening in recording.openings]),
        peak_rss=max(block.peak_rss or 0.0 for block in blocks),
        waiting=waiting(blocks),
    )


def times_of(runs: Sequence[Sequence[float]]) -> Times:
    """Median and upper quantiles of all runs of some openings."""
    median = clustered_quantile(runs, 0.5) or Estimate(float(np.median(np.concatenate(runs))))
    upper = (clustered_quantile(runs, q) for q in (0.90, 0.95, 0.99))
    return Times(sum(map(len, runs)), median, *upper)


def saturate(
    subject: Subject, options: RunOptions, batches: Sequence[int], *, progress: Progress
) -> Saturated:
    """Run images without a pause; energy is read around the first rate."""
    rates: list[Throughput] = []
    energy: float | None = None
    for batch in batches:
        with WorkerProcess(subject, dataclasses.replace(options, batch=batch)) as worker:
            warm_up(worker)
            for sessions in SESSIONS:
                worker.throughput(sessions, WINDOW)  # opens the sessions
                before = read_sensors(gpu=worker.facts.on_gpu)
                found = [worker.throughput(sessions, WINDOW) for _ in range(WINDOWS)]
                if not rates:
                    after = read_sensors(gpu=worker.facts.on_gpu)
                    joules, _ = energy_between(before, after)
                    energy = None if joules is None else joules / (sum(found) * WINDOW)
                rates.append(Throughput(batch, sessions, median_estimate(found)))
                progress("throughput", len(rates), len(batches) * len(SESSIONS))
    return Saturated(tuple(rates), energy)


def soak_of(recording: Recording) -> Soak:
    """Slopes of a long run."""
    blocks, moments = recording.blocks, recording.moments
    if len(blocks) < SOAK_LEAST:
        raise UsageError(
            f"the soak was too short for a slope: {len(blocks)} blocks",
            remedy="let it run for longer, such as --soak 30m",
        )
    latency = [block.median("total", waiting=True) for block in blocks]
    memory = [block.rss for block in blocks if block.rss is not None]
    drift = _slope(moments, memory) if len(memory) == len(blocks) else None
    return Soak(moments[-1], _slope(moments, latency), drift)


def _slope(moments: Sequence[float], values: Sequence[float]) -> Estimate:
    """Per hour, over medians of stretches of the run."""
    first = int(len(values) * SOAK_SKIPPED)
    parts = min(SOAK_POINTS, len(values) - first)
    x, y = (
        [float(np.median(part)) for part in np.array_split(np.asarray(series[first:]), parts)]
        for series in (moments, values)
    )
    return slope([moment / HOUR for moment in x], y)


def ticks(path: Path = Path("/proc/stat")) -> Ticks | None:
    """Read the counters; None where the system has none."""
    try:
        values = [int(word) for word in path.read_text(encoding="ascii").split()[1:9]]
        return Ticks(sum(values), values[7])
    except (OSError, ValueError, IndexError):
        return None


def noise(recordings: Sequence[Recording]) -> float | None:
    """The largest over the sides; None where there are too few blocks."""
    found = [neighbours_differ(np.concatenate(r.medians("total"))) for r in recordings]
    return max((value for value in found if value is not None), default=None)


def neighbours_differ(values: Sequence[float] | NDArray[np.float64]) -> float | None:
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
