"""From a recording to the record: a side, its throughput, and the slopes of a long run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from generalad.bench import estimates
from generalad.bench.interleaved import Recording, warm_up
from generalad.bench.noise import waiting
from generalad.bench.report import STAGES, Side, Soak, Throughput
from generalad.bench.sensors import Sensors, energy_between, read_sensors
from generalad.bench.worker_process import RunOptions, Subject, WorkerProcess
from generalad.errors import UsageError
from generalad.files import sha256_of_file
from generalad.progress import Progress
from generalad.statistics import Estimate, slope

SESSIONS = (1, 2)  # sessions side by side, in which throughput is measured

WINDOWS, WINDOW = 8, 0.25
"""Of each throughput, and the seconds of each."""

SOAK_POINTS = 120  # points of a soak's regression, each the median of its share of the run
SOAK_SKIPPED = 0.1  # share of a soak at its beginning, in which memory is still being claimed
SOAK_LEAST = 10  # blocks of a soak that has a slope at all
HOUR = 3600.0


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
            stage: estimates.times([block.times[stage] for block in blocks])
            for stage in STAGES
            if stage in blocks[0].times
        },
        throughput=rates.rates,
        gpu_memory=sensors.gpu_memory,
        energy=rates.energy,
        temperature=sensors.temperature,
        missing=tuple(
            line for line in sensors.missing if not (is_left_out and line.startswith("energy"))
        ),
        load=estimates.median(recording.load),
        cold=estimates.median(recording.cold),
        peak_rss=max(block.peak_rss or 0.0 for block in blocks),
        waiting=waiting(blocks),
    )


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
                rates.append(Throughput(batch, sessions, estimates.median(found)))
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
    latency = [float(np.median(block.times["total"])) for block in blocks]
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
