"""How sides take turns, with made-up workers and a clock that they move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from generalad.bench import interleaved
from generalad.bench.interleaved import Plan, Recording, measure_interleaved
from generalad.bench.machine import Sensors
from generalad.bench.worker_process import Block, Facts, RunOptions, Subject
from generalad.errors import UsageError

ORDER = RunOptions(["a.png"])
OLD, NEW = Subject("old", Path("old.onnx")), Subject("new", Path("new.onnx"))


class Stage:
    """What fake workers share: the time, and the log of what they did."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []
        self.processes: list[str] = []
        self.open: list[str] = []
        self.start = 0.5
        self.milliseconds = 10.0
        self.factors = {"old": 1.0, "new": 1.0}
        self.sizes = {"old": (64, 64), "new": (64, 64)}
        self.on_gpu: set[str] = set()
        self.can_time: set[str] = set()

    def clock(self) -> float:
        return self.now

    def worker(self, subject: Subject) -> FakeWorker:
        return FakeWorker(self, subject)

    def sensors(self, pid: int, *, gpu: bool) -> Sensors:
        """Read while the processes are there, of which each has 200 MB on the GPU."""
        assert self.open
        return Sensors(self.now, gpu_memory=200.0 * pid if gpu else None)


class FakeWorker:
    """Takes its time by moving the clock."""

    batch = 1
    facts: Facts

    def __init__(self, stage: Stage, subject: Subject) -> None:
        self._stage, self.subject = stage, subject
        stage.processes.append(subject.name)

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *error: object) -> None:
        self._stage.processes.remove(self.subject.name)

    def open(self, order: RunOptions) -> None:
        stage, subject, self.batch = self._stage, self.subject, order.batch
        stage.now += stage.start
        stage.open.append(subject.name)
        stage.log.append(f"open {subject.name}")
        size = stage.sizes[subject.name]
        backend = "GPU" if subject.name in stage.on_gpu else "CPU"
        timed = order.timed and subject.name in stage.can_time
        self.facts = Facts(backend, "fp32", size, None, stage.start * 1000, 20.0, timed, pid=1)

    def close_artifact(self) -> None:
        self._stage.open.remove(self.subject.name)

    def run(self, runs: int) -> Block:
        milliseconds = self._stage.milliseconds * self._stage.factors[self.subject.name]
        self._stage.now += runs * milliseconds / 1000
        self._stage.log.append(self.subject.name)
        stages = ("upload", "infer", "download") if self.facts.timed else ("infer",)
        times = [milliseconds / self.batch] * runs
        return Block(dict.fromkeys((*stages, "total"), times))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    found = Stage()
    monkeypatch.setattr(interleaved, "WorkerProcess", found.worker)
    monkeypatch.setattr(interleaved, "read_sensors", found.sensors)
    return found


def openings(count: int) -> Callable[[Sequence[Recording]], bool]:
    return lambda recordings: len(recordings[0].openings) >= count


def never(recordings: Sequence[Recording]) -> bool:
    return False


def run(stage: Stage, plan: Plan, *subjects: Subject, order: RunOptions = ORDER) -> list[Recording]:
    return measure_interleaved(subjects or (NEW, OLD), order, plan, clock=stage.clock)


def test_each_turn_has_each_side_once_in_random_order(stage: Stage) -> None:
    new, old = run(stage, Plan(budget=5, enough=never, reopens=False))
    assert len(new.blocks) == len(old.blocks) > 30
    pairs = [tuple(stage.log[-60:][i : i + 2]) for i in range(0, 60, 2)]
    assert set(pairs) == {("new", "old"), ("old", "new")}
    # Both orders about equally often.
    assert 7 <= pairs.count(("new", "old")) <= 23


def test_the_order_is_that_of_the_seed(stage: Stage) -> None:
    logs = []
    for seed in (1, 1, 2):
        stage.log.clear()
        run(stage, Plan(budget=5, enough=never, seed=seed, reopens=False))
        logs.append(list(stage.log))
    assert logs[0] == logs[1] != logs[2]


def test_a_block_takes_its_time_whatever_a_run_takes(stage: Stage) -> None:
    for milliseconds, runs in ((10.0, 5), (1.0, 50), (400.0, 1)):
        stage.milliseconds = milliseconds
        new, _ = run(stage, Plan(budget=1000, enough=openings(1)))
        assert len(new.blocks[0].times["total"]) == runs


def test_a_block_of_batches_too(stage: Stage) -> None:
    new, _ = run(
        stage, Plan(budget=1000, enough=openings(1)), order=RunOptions(["a.png"], batch=10)
    )
    assert len(new.blocks[0].times["total"]) == 5
    assert new.blocks[0].times["total"][0] == pytest.approx(1.0)


def test_sides_are_opened_anew_after_about_as_long_as_opening_took(stage: Stage) -> None:
    new, old = run(stage, Plan(budget=1000, enough=openings(20)))
    assert len(new.openings) == len(old.openings) == 20
    assert stage.log.count("open new") == stage.log.count("open old") == 20
    # Two openings of half a second and a warm-up; pairs of blocks of 50 ms.
    assert all(10 <= len(opening.blocks) <= 14 for opening in new.openings)
    assert (stage.processes, stage.open) == ([], [])


def test_either_side_may_be_opened_first(stage: Stage) -> None:
    run(stage, Plan(budget=1000, enough=openings(20)))
    opened = [line.split()[1] for line in stage.log if line.startswith("open")]
    assert 4 <= opened[::2].count("new") <= 16


def test_slow_openings_have_fewer_turns_so_that_there_are_enough_of_them(stage: Stage) -> None:
    stage.start = 2.0
    new, _ = run(stage, Plan(budget=60, enough=never))
    assert len(new.openings) >= interleaved.FEWEST_OPENINGS
    stage.start = 20.0
    new, _ = run(stage, Plan(budget=600, enough=never))
    assert {len(opening.blocks) for opening in new.openings[:-1]} <= set(range(4, 110))


def test_the_budget_ends_it(stage: Stage) -> None:
    told: list[float] = []
    run(stage, Plan(budget=10, enough=never, progress=told.append))
    assert 10 <= stage.now < 12
    assert told == sorted(told)
    assert told[-1] == 10


def test_a_budget_without_room_for_a_turn_is_refused(stage: Stage) -> None:
    stage.start = 3.0
    with pytest.raises(UsageError, match="budget of 5 s is too short: starting"):
        run(stage, Plan(budget=5, enough=never))
    assert stage.processes == []


def test_different_inputs_are_refused(stage: Stage) -> None:
    stage.sizes["new"] = (128, 128)
    with pytest.raises(UsageError, match="new takes 128 x 128 pixels and old takes 64 x 64"):
        run(stage, Plan(budget=5, enough=never))
    assert stage.processes == []


def test_a_long_run_keeps_blocks_evenly(stage: Stage) -> None:
    plan = Plan(budget=100, enough=never, reopens=False, spacing=5.0)
    (new,) = run(stage, plan, NEW)
    assert 18 <= len(new.blocks) <= 21
    assert stage.log.count("new") > 1000  # it never stood still
    assert all(5 <= b - a < 5.2 for a, b in pairwise(new.moments))


def test_what_comes_between_comes_before_each_turn(stage: Stage) -> None:
    plan = Plan(budget=100, enough=openings(1), between=lambda: stage.log.append("between"))
    run(stage, plan, NEW)
    assert stage.log[-6:] == ["between", "new"] * 3


@pytest.mark.parametrize("timed", [{"new", "old"}, set()])
def test_sides_that_are_alike_are_opened_once(stage: Stage, timed: set[str]) -> None:
    stage.can_time = timed
    new, old = run(stage, Plan(budget=1000, enough=openings(1)))
    assert stage.log.count("open new") == stage.log.count("open old") == 1
    assert ("upload" in new.blocks[0].times) == ("upload" in old.blocks[0].times) == bool(timed)


@pytest.mark.parametrize("able", ["new", "old"])
def test_a_network_is_not_compared_with_a_whole_run(stage: Stage, able: str) -> None:
    """If one side cannot tell its stages apart, neither does, from the first turn to the last."""
    stage.can_time = {able}
    new, old = run(stage, Plan(budget=1000, enough=openings(3)))
    for recording in (new, old):
        assert all(set(block.times) == {"infer", "total"} for block in recording.blocks)
        # What was given up at once leaves no trace.
        assert len(recording.openings) == stage.log.count("open old") - 1 > 1
    assert not stage.processes and not stage.open


def test_each_side_has_its_own_memory_of_the_gpu(stage: Stage) -> None:
    stage.on_gpu = {"new"}
    new, old = run(stage, Plan(budget=1000, enough=openings(1)))
    assert new.sensors is not None and new.sensors.gpu_memory == 200.0
    assert old.sensors is not None and old.sensors.gpu_memory is None
