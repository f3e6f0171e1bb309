"""Interleaved measurement: in each turn every side runs a block, in random order, one at a time.

Whatever the machine does meanwhile, it does to all sides. After some turns the sides are opened
anew: how fast a process runs is drawn when its memory is, and stays as long as it lives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from generalad.bench.machine import Sensors, read_sensors
from generalad.bench.worker_process import Block, Facts, RunOptions, Subject, WorkerProcess
from generalad.errors import UsageError

BLOCK = 50.0  # milliseconds of a block. Shorter ones cost switching, longer ones lie further apart
LEAST_TURNS = 4  # of an opening
FEWEST_OPENINGS = 12  # that a budget has room for, if opening takes less than half of it
WARM_UP = 3.0  # longest warm-up of a side, in seconds
STEADY = 0.03  # a side is warm when its fastest run gains less than this on the block before

Clock = Callable[[], float]


@dataclass
class Opening:
    """What was seen of one side between its opening and its end."""

    load: float  # this and the next: milliseconds
    cold: float
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Recording:
    """What was seen of one side; `moments` in seconds, of the ends of its blocks."""

    subject: Subject
    facts: Facts  # of the first opening
    openings: list[Opening] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    sensors: Sensors | None = None  # when an opening had done its work and was still there

    @property
    def blocks(self) -> list[Block]:
        """Those of all openings."""
        return [block for opening in self.openings for block in opening.blocks]

    def medians(self, stage: str, *, waiting: bool = False) -> list[list[float]]:
        """By opening, the median of each block, without the waiting or with it."""
        return [
            [block.median(stage, waiting=waiting) for block in opening.blocks]
            for opening in self.openings
        ]


@dataclass(frozen=True)
class Plan:
    """How long and how. Blocks between those that are kept are not recorded, for runs of days."""

    budget: float  # seconds for everything, starting included
    enough: Callable[[Sequence[Recording]], bool]  # asked after each opening; True ends the bench
    between: Callable[[], None] = lambda: None  # called before each turn
    progress: Callable[[float], None] = lambda seconds: None  # told the seconds that have passed
    seed: int = 0  # of the order within turns
    reopens: bool = True  # False keeps the first opening to the end
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
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(WorkerProcess(one)) for one in subjects]
        run = _Interleaved(workers, options, plan, clock)
        while not run.opening():
            pass
    return run.recordings


class _Interleaved:
    def __init__(
        self, workers: Sequence[WorkerProcess], options: RunOptions, plan: Plan, clock: Clock
    ) -> None:
        self._workers, self._options, self._plan, self._clock = workers, options, plan, clock
        self._random = random.Random(plan.seed)
        self._began, self._kept = clock(), -math.inf
        self._runs = 0
        self.recordings: list[Recording] = []

    def opening(self) -> bool:
        """Turns with one opening of each side; returns whether it was the last."""
        began, plan = self._clock(), self._plan
        with self._opened():
            medians = [warm_up(worker, clock=self._clock) for worker in self._in_random_order()]
            self._runs = self._runs or max(1, round(BLOCK / max(medians)))
            started, turns, over, done = self._clock(), 0, False, False
            while not over and not (done and plan.reopens):
                self._turn()
                turns += 1
                now = self._clock()
                plan.progress(min(now - self._began, plan.budget))
                over = now - self._began >= plan.budget
                # As long as opening took, which is near the best whatever varies how much.
                most = min(started - began, plan.budget / FEWEST_OPENINGS - (started - began))
                done = turns >= LEAST_TURNS and now - started >= most
            for recording, worker in zip(self.recordings, self._workers, strict=True):
                recording.sensors = read_sensors(worker.facts.pid, gpu=worker.facts.on_gpu)
        return over or plan.enough(self.recordings)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        """Open the sides, and in the end close them."""
        # What is opened first is slower by a little, so the order is drawn too.
        for worker in self._in_random_order():
            worker.open(self._options)
        if len({worker.facts.timed for worker in self._workers}) > 1:
            # One side is not told apart, as it runs on a CPU. Then none is: its whole run is called
            # infer, and is not to be compared with the network alone.
            self._options = dataclasses.replace(self._options, timed=False)
            self._close()
            for worker in self._workers:
                worker.open(self._options)
        if not self.recordings:
            _check_inputs(self._workers)
            self.recordings = [Recording(worker.subject, worker.facts) for worker in self._workers]
        for recording, worker in zip(self.recordings, self._workers, strict=True):
            recording.openings.append(Opening(worker.facts.load, worker.facts.cold))
        yield
        self._close()

    def _in_random_order(self) -> list[WorkerProcess]:
        return self._random.sample(self._workers, len(self._workers))

    def _close(self) -> None:
        for worker in self._workers:
            worker.close_artifact()

    def _turn(self) -> None:
        passed = self._clock() - self._began
        if passed > self._plan.budget and not self.recordings[0].blocks:
            raise UsageError(
                f"a budget of {self._plan.budget:g} s is too short: starting and warming up took "
                f"{passed:.1f} s",
                remedy="give more, such as --budget 60s",
            )
        while self._clock() - self._kept < self._plan.spacing:
            for worker in self._workers:
                worker.run(self._runs)
        self._kept = self._clock()
        self._plan.between()
        for index in self._random.sample(range(len(self._workers)), len(self._workers)):
            recording = self.recordings[index]
            recording.openings[-1].blocks.append(self._workers[index].run(self._runs))
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
