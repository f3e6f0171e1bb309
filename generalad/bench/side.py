"""What was seen of one side, as the record has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from generalad.bench import estimates
from generalad.bench.noise import waiting
from generalad.bench.process import Order, Subject, Worker
from generalad.bench.record import STAGES, Estimate, Side, Throughput
from generalad.bench.turns import Recording, warm_up
from generalad.files import sha256_of_file

SESSIONS = (1, 2)
"""Sessions side by side, in which throughput is measured."""

WINDOWS = 8
"""Of each throughput."""

WINDOW = 0.25
"""Seconds."""


def side_of(recording: Recording, throughput: Sequence[Throughput] = ()) -> Side:
    """Sum up a recording."""
    blocks, facts = recording.blocks, recording.facts
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
        throughput=tuple(throughput),
        load=_median(recording.load),
        cold=_median(recording.cold),
        peak_rss=max(recording.peak_rss, default=0.0),
        waiting=waiting(blocks),
    )


def throughput(subject: Subject, order: Order, batches: Sequence[int]) -> list[Throughput]:
    """Pictures a second at each batch size, of one session and of two side by side."""
    found = []
    for batch in batches:
        with Worker(subject, dataclasses.replace(order, batch=batch)) as worker:
            warm_up(worker)
            for sessions in SESSIONS:
                worker.flow(sessions, WINDOW)  # opens the sessions
                rates = [worker.flow(sessions, WINDOW) for _ in range(WINDOWS)]
                found.append(Throughput(batch, sessions, _median(rates)))
    return found


def _median(values: Sequence[float]) -> Estimate:
    return estimates.bootstrap(np.asarray(values, float), lambda some: np.median(some, axis=-1))
