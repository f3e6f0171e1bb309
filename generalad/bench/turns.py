"""Sides take turns: in each turn every side runs one block, in random order, never two at once.

Whatever the machine does meanwhile, it does to all sides within the same tenth of a second. After a
round of turns the processes are replaced, because two processes of the same program can differ a
little for as long as they live, by where their memory happens to lie.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from generalad.bench.process import Block, Facts, Order, Subject, Worker
from generalad.bench.sensors import Sensors, read_sensors
from generalad.errors import UsageError

BLOCK = 50.0
"""Milliseconds of a block. Shorter ones cost switching, longer ones lie further apart."""

ROUND_TURNS = 30
"""Turns with the same processes, or more where starting takes long."""

STARTING_SHARE = 0.15
"""Of a round's time that starting the processes may take."""

WARM_UP = 3.0
"""Longest warm-up of a side, in seconds."""

STEADY = 0.03
"""A side is warm when its fastest run of a block gains less than this on the block before."""

Clock = Callable[[], float]


@dataclass
class Recording:
    """What was seen of one side; `load` and `cold` in milliseconds, one value a process.

    `sensors` were read last, when a process had done its work and was still there.
    """

    subject: Subject
    facts: Facts
    blocks: list[Block] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    peak_rss: list[float] = field(default_factory=list)
    sensors: Sensors | None = None

    def own_medians(self) -> dict[str, list[float]]:
        """By stage, the median of each block without the waiting."""
        return {
            stage: [float(np.median(block.own(stage))) for block in self.blocks]
            for stage in self.blocks[0].times
        }


@dataclass(frozen=True)
class Plan:
    """How long and how.

    Attributes:
        budget: seconds for everything, starting included.
        enough: asked after each turn with all recordings; True ends the bench.
        between: called before each turn, with the processes' ids.
        progress: told the seconds that have passed.
        seed: of the order within turns.
        rounds: False keeps the first processes to the end.
        spacing: seconds between blocks that are kept; what runs in between is not recorded, so that
            a run of days fits into memory.
    """

    budget: float
    enough: Callable[[Sequence[Recording]], bool]
    between: Callable[[Sequence[int]], None] = lambda pids: None
    progress: Callable[[float], None] = lambda seconds: None
    seed: int = 0
    rounds: bool = True
    spacing: float = 0.0


def take_turns(
    subjects: Sequence[Subject], order: Order, plan: Plan, *, clock: Clock = time.monotonic
) -> list[Recording]:
    """Run the sides until it is enough or the budget is spent.

    Returns:
        A recording for each subject; block i of one belongs to the same turn as block i of another.

    Raises:
        UsageError: the budget does not suffice for one turn.
        GadError: a process died or hangs, or an artifact cannot be opened.
    """
    return _Bench(subjects, order, plan, clock).run()


class _Bench:
    def __init__(self, subjects: Sequence[Subject], order: Order, plan: Plan, clock: Clock) -> None:
        self._subjects, self._order, self._plan, self._clock = subjects, order, plan, clock
        self._random = random.Random(plan.seed)
        self._began = clock()
        self._recordings: list[Recording] = []
        self._runs = self._rounds = 0
        self._kept = -math.inf

    def run(self) -> list[Recording]:
        """Rounds to the end."""
        while not self._round():
            pass
        return self._recordings

    def _round(self) -> bool:
        """Turns with one set of processes; returns whether it was the last."""
        began = self._clock()
        with contextlib.ExitStack() as stack:
            workers = self._open(stack)
            self._rounds += 1
            self._opened(workers)
            medians = [warm_up(worker, clock=self._clock) for worker in workers]
            if not self._runs:
                self._runs = max(1, round(BLOCK / max(medians)))
            started = self._clock()
            last, turns = False, 0
            while not last:
                if self._clock() - self._began > self._plan.budget and not self._blocks:
                    raise self._too_short()
                self._turn(workers)
                turns += 1
                last = self._is_over()
                seconds = self._clock() - started
                old = turns >= ROUND_TURNS and (started - began) < STARTING_SHARE * seconds
                if old and self._plan.rounds:
                    break
            for recording, worker in zip(self._recordings, workers, strict=True):
                if (memory := worker.peak_rss()) is not None:
                    recording.peak_rss.append(memory)
                recording.sensors = read_sensors(worker.pid, gpu=worker.facts.on_gpu)
        return last

    def _open(self, stack: contextlib.ExitStack) -> list[Worker]:
        # The process that is opened first is 0.25 % slower, so the sides take turns in that too.
        step = -1 if self._rounds % 2 else 1
        opened = [stack.enter_context(Worker(s, self._order)) for s in self._subjects[::step]]
        workers = opened[::step]
        if len({worker.facts.timed for worker in workers}) == 1:
            return workers
        # One side is not told apart, by an older checkout or on a CPU. Then none is: its whole run
        # is called infer, and is not to be compared with the network alone.
        stack.close()
        self._order = dataclasses.replace(self._order, timed=False)
        return self._open(stack)

    def _opened(self, workers: Sequence[Worker]) -> None:
        if not self._recordings:
            self._recordings = [Recording(w.subject, w.facts) for w in workers]
            _check_inputs(self._recordings)
        for recording, worker in zip(self._recordings, workers, strict=True):
            recording.load.append(worker.facts.load)
            recording.cold.append(worker.facts.cold)

    def _turn(self, workers: Sequence[Worker]) -> None:
        while self._clock() - self._kept < self._plan.spacing:
            for worker in workers:
                worker.run(self._runs)
        self._kept = self._clock()
        self._plan.between([worker.pid for worker in workers])
        for index in self._random.sample(range(len(workers)), len(workers)):
            recording = self._recordings[index]
            recording.blocks.append(workers[index].run(self._runs))
            recording.moments.append(self._clock() - self._began)

    def _is_over(self) -> bool:
        seconds = self._clock() - self._began
        self._plan.progress(min(seconds, self._plan.budget))
        return seconds >= self._plan.budget or self._plan.enough(self._recordings)

    @property
    def _blocks(self) -> int:
        return len(self._recordings[0].blocks)

    def _too_short(self) -> UsageError:
        return UsageError(
            f"a budget of {self._plan.budget:g} s is too short: starting and warming up took "
            f"{self._clock() - self._began:.1f} s",
            remedy="give more, such as --budget 60s",
        )


def warm_up(worker: Worker, *, clock: Clock = time.monotonic) -> float:
    """Run until times are steady; returns the median milliseconds of a batch at the end."""
    began, best, runs = clock(), float("inf"), 3
    while True:
        times = worker.run(runs).own("total")
        fastest = min(times)
        batch = float(np.median(times)) * worker.batch
        if fastest > best * (1 - STEADY) or clock() - began > WARM_UP:
            return batch
        best = fastest
        runs = max(3, min(200, round(BLOCK / batch)))


def _check_inputs(recordings: Sequence[Recording]) -> None:
    """Refuse to compare networks that are given different images."""
    sizes = {recording.facts.image_size for recording in recordings}
    if len(sizes) > 1:
        sides = " and ".join(
            f"{r.subject.name} takes {r.facts.image_size[0]} x {r.facts.image_size[1]} pixels"
            for r in recordings
        )
        raise UsageError(
            f"these artifacts have different inputs: {sides}",
            remedy="compare artifacts of the same input size, or bench each by itself",
        )
