"""Interleaved measurement: in each turn every side runs a block, in random order, one at a time.

Whatever the machine does meanwhile, it does to all sides. After a round of turns the processes are
replaced, because two of the same program can differ a little for as long as they live.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from generalad.bench.machine import Sensors, read_sensors
from generalad.bench.worker_process import Block, Facts, RunOptions, Subject, WorkerProcess
from generalad.errors import UsageError

BLOCK = 50.0  # milliseconds of a block. Shorter ones cost switching, longer ones lie further apart
ROUND_TURNS = 30  # turns with the same processes, or more where starting takes long
STARTING_SHARE = 0.15  # of a round's time that starting the processes may take
WARM_UP = 3.0  # longest warm-up of a side, in seconds
STEADY = 0.03  # a side is warm when its fastest run gains less than this on the block before

Clock = Callable[[], float]


@dataclass
class Recording:
    """What was seen of one side; `moments` in seconds, of the ends of its blocks."""

    subject: Subject
    facts: Facts  # of the first process
    blocks: list[Block] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)  # this and the next: milliseconds, by process
    cold: list[float] = field(default_factory=list)
    sensors: Sensors | None = None  # when a process had done its work and was still there

    def own_medians(self) -> dict[str, list[float]]:
        """By stage, the median of each block without the waiting."""
        stages = self.blocks[0].times
        return {stage: [block.median(stage) for block in self.blocks] for stage in stages}


@dataclass(frozen=True)
class Plan:
    """How long and how. Blocks between those that are kept are not recorded, for runs of days."""

    budget: float  # seconds for everything, starting included
    enough: Callable[[Sequence[Recording]], bool]  # asked after each turn; True ends the bench
    between: Callable[[], None] = lambda: None  # called before each turn
    progress: Callable[[float], None] = lambda seconds: None  # told the seconds that have passed
    seed: int = 0  # of the order within turns
    rounds: bool = True  # False keeps the first processes to the end
    spacing: float = 0.0  # seconds between blocks that are kept


def measure_interleaved(
    subjects: Sequence[Subject], options: RunOptions, plan: Plan, *, clock: Clock = time.monotonic
) -> list[Recording]:
    """Run the sides in turns until it is enough or the budget is spent.

    Block i of one recording belongs to the same turn as block i of another.

    Raises:
        UsageError: the budget does not suffice for one turn, or the sides' inputs differ.
        GadError: a process died or hangs, or an artifact cannot be opened.
    """
    run = _Interleaved(subjects, options, plan, clock)
    while not run.round():
        pass
    return run.recordings


class _Interleaved:
    def __init__(
        self, subjects: Sequence[Subject], options: RunOptions, plan: Plan, clock: Clock
    ) -> None:
        self._subjects, self._options, self._plan, self._clock = subjects, options, plan, clock
        self._random = random.Random(plan.seed)
        self._began, self._kept = clock(), -math.inf
        self._runs = self._rounds = 0
        self.recordings: list[Recording] = []

    def round(self) -> bool:
        """Turns with one set of processes; returns whether it was the last."""
        began = self._clock()
        with contextlib.ExitStack() as stack:
            workers = self._open(stack)
            medians = [warm_up(worker, clock=self._clock) for worker in workers]
            self._runs = self._runs or max(1, round(BLOCK / max(medians)))
            started, turns, over, old = self._clock(), 0, False, False
            while not over and not (old and self._plan.rounds):
                self._turn(workers)
                turns += 1
                seconds = self._clock() - self._began
                self._plan.progress(min(seconds, self._plan.budget))
                over = seconds >= self._plan.budget or self._plan.enough(self.recordings)
                most = STARTING_SHARE * (self._clock() - started)
                old = turns >= ROUND_TURNS and started - began < most
            for recording, worker in zip(self.recordings, workers, strict=True):
                recording.sensors = read_sensors(worker.pid, gpu=worker.facts.on_gpu)
        return over

    def _open(self, stack: contextlib.ExitStack) -> list[WorkerProcess]:
        # The process that is opened first is 0.25 % slower, so the sides alternate in that too.
        step = -1 if self._rounds % 2 else 1
        workers = [
            stack.enter_context(WorkerProcess(s, self._options)) for s in self._subjects[::step]
        ][::step]
        if len({worker.facts.timed for worker in workers}) > 1:
            # One side is not told apart, as it runs on a CPU. Then none is: its whole run is called
            # infer, and is not to be compared with the network alone.
            stack.close()
            self._options = dataclasses.replace(self._options, timed=False)
            return self._open(stack)
        self._rounds += 1
        if not self.recordings:
            _check_inputs(workers)
            self.recordings = [Recording(worker.subject, worker.facts) for worker in workers]
        for recording, worker in zip(self.recordings, workers, strict=True):
            recording.load.append(worker.facts.load)
            recording.cold.append(worker.facts.cold)
        return workers

    def _turn(self, workers: Sequence[WorkerProcess]) -> None:
        passed = self._clock() - self._began
        if passed > self._plan.budget and not self.recordings[0].blocks:
            raise UsageError(
                f"a budget of {self._plan.budget:g} s is too short: starting and warming up took "
                f"{passed:.1f} s",
                remedy="give more, such as --budget 60s",
            )
        while self._clock() - self._kept < self._plan.spacing:
            for worker in workers:
                worker.run(self._runs)
        self._kept = self._clock()
        self._plan.between()
        for index in self._random.sample(range(len(workers)), len(workers)):
            recording = self.recordings[index]
            recording.blocks.append(workers[index].run(self._runs))
            recording.moments.append(self._clock() - self._began)


def warm_up(worker: WorkerProcess, *, clock: Clock = time.monotonic) -> float:
    """Run until times are steady; returns the median milliseconds of a batch at the end."""
    began, best, runs = clock(), math.inf, 3
    while True:
        times = worker.run(runs).own("total")
        fastest = min(times)
        batch = statistics.median(times) * worker.batch
        if fastest > best * (1 - STEADY) or clock() - began > WARM_UP:
            return batch
        best, runs = fastest, max(3, min(200, round(BLOCK / batch)))


def _check_inputs(workers: Sequence[WorkerProcess]) -> None:
    """Refuse to compare networks that are given different images."""
    sizes = [worker.facts.image_size for worker in workers]
    if len(set(sizes)) > 1:
        names = [worker.subject.name for worker in workers]
        pairs = zip(names, sizes, strict=True)
        sides = " and ".join(f"{name} takes {h} x {w} pixels" for name, (h, w) in pairs)
        raise UsageError(
            f"these artifacts have different inputs: {sides}",
            remedy="compare artifacts of the same input size, or bench each by itself",
        )
