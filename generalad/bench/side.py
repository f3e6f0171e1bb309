"""What was seen of one side, as the record has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from generalad.bench import estimates
from generalad.bench.noise import waiting
from generalad.bench.process import Order, Subject, Worker
from generalad.bench.record import STAGES, Estimate, Side, Throughput
from generalad.bench.sensors import energy_between, read_sensors
from generalad.bench.turns import Recording, warm_up
from generalad.files import sha256_of_file

SESSIONS = (1, 2)
"""Sessions side by side, in which throughput is measured."""

WINDOWS = 8
"""Of each throughput."""

WINDOW = 0.25
"""Seconds."""


def side_of(recording: Recording, flow: Flow | None = None) -> Side:
    """Sum up a recording, and the flow where it was measured.

    Sides that take turns have no energy: counters are renewed too seldom to tell blocks apart.
    """
    blocks, facts, sensors = recording.blocks, recording.facts, recording.sensors
    present = [stage for stage in STAGES if stage in blocks[0].times]
    return Side(
        name=recording.subject.name,
        sha256=sha256_of_file(recording.subject.artifact),
        precision=facts.precision,
        backend=facts.backend,
        revision=recording.subject.revision,
        stages={
            stage: estimates.times([block.times[stage] for block in blocks]) for stage in present
        },
        throughput=flow.rates if flow else (),
        gpu_memory=sensors.gpu_memory if sensors else None,
        energy=flow.energy if flow else None,
        temperature=sensors.temperature if sensors else None,
        missing=tuple(
            line
            for line in (sensors.missing if sensors else ())
            if flow or not line.startswith("energy")
        ),
        load=_median(recording.load),
        cold=_median(recording.cold),
        peak_rss=max(recording.peak_rss, default=0.0),
        waiting=waiting(blocks),
    )


@dataclass(frozen=True)
class Flow:
    """What a side does when images never end.

    Attributes:
        rates: at each batch size, of one session and of two side by side.
        energy: see `Side`; of one session and the first batch size.
    """

    rates: tuple[Throughput, ...]
    energy: float | None


def flow(
    subject: Subject,
    order: Order,
    batches: Sequence[int],
    *,
    progress: Callable[[str, int, int], None],
) -> Flow:
    """Run images without a pause; energy is read around the first rate."""
    rates: list[Throughput] = []
    energy: float | None = None
    for batch in batches:
        with Worker(subject, dataclasses.replace(order, batch=batch)) as worker:
            warm_up(worker)
            for sessions in SESSIONS:
                worker.flow(sessions, WINDOW)  # opens the sessions
                before = read_sensors(gpu=worker.facts.on_gpu)
                found = [worker.flow(sessions, WINDOW) for _ in range(WINDOWS)]
                if not rates:
                    after = read_sensors(gpu=worker.facts.on_gpu)
                    joules, _ = energy_between(before, after)
                    energy = None if joules is None else joules / (sum(found) * WINDOW)
                rates.append(Throughput(batch, sessions, _median(found)))
                progress("throughput", len(rates), len(batches) * len(SESSIONS))
    return Flow(tuple(rates), energy)


def _median(values: Sequence[float]) -> Estimate:
    return estimates.bootstrap(np.asarray(values, float), lambda some: np.median(some, axis=-1))
