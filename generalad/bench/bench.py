"""`bench`: measure an artifact, alone or against another one, and judge the limits asked for.

pictures -> take_turns (a process for each side) -> compare -> gates -> Report
"""

from __future__ import annotations

import contextlib
import datetime
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import generalad
from generalad.bench import comparison, estimates, gates, noise
from generalad.bench.checkout import checkout, own_revision
from generalad.bench.machine import usable_cores
from generalad.bench.pictures import DRAWN, pictures
from generalad.bench.process import Order, Subject
from generalad.bench.record import Comparison, Gate, Machine, Report, Side, Verdict
from generalad.bench.side import side_of, throughput
from generalad.bench.soak import MemoryLog, soak
from generalad.bench.turns import Plan, Recording, take_turns
from generalad.errors import UsageError
from generalad.runtime.interrupt import on_interrupt

Progress = Callable[[str, int, int], None]
"""Called with (what, seconds passed, seconds in all)."""

BUDGET = 60.0
NARROW_MEDIAN = 0.02
"""Half of the median's interval, relative, that is narrow enough where nothing is compared."""

NARROW_P95 = 0.05
"""The same of the 95 % quantile where it has a limit."""


@dataclass(frozen=True)
class Limits:
    """What is judged; None is not.

    Attributes:
        slowdown: largest share by which the total may take longer, 0.05 for 5 %.
        p95: milliseconds a picture that 95 % of runs may take at most.
        memory: megabytes that the process may have at most.
    """

    slowdown: float | None = None
    p95: float | None = None
    memory: float | None = None


NO_LIMITS = Limits()


def bench(
    artifact: str | Path,
    *,
    against: str | Path | None = None,
    against_rev: str | None = None,
    source: str | None = None,
    batches: Sequence[int] = (1,),
    threads: int | None = None,
    device: str | None = None,
    limits: Limits = NO_LIMITS,
    budget: float = BUDGET,
    soak_for: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Measure an artifact.

    Args:
        artifact: made by `gad export`; the new side.
        against: another artifact of the same input size; the old side.
        against_rev: a revision of this project, which must be a git checkout; the same artifact is
            run by it as the old side.
        source: a folder, pattern or video; None takes drawn parts.
        batches: pictures a run. Stages are those of the first; throughput is measured at each.
        threads: as `open_session` takes them.
        device: the same.
        limits: which gates there are.
        budget: seconds at most, but for finishing what has begun.
        soak_for: seconds of a long run, whose drift is reported; takes the place of the budget.
        seed: of the order of the sides.
        progress: told of every second.

    Raises:
        UsageError: options exclude each other, the inputs differ, the budget is too short, or the
            revision cannot be had.
        GadError: an artifact cannot be opened, or a process died or hangs.
    """
    _check(against, against_rev, batches, limits, soak_for)
    began = time.monotonic()
    before = noise.ticks()
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_interrupt(_interrupted))
        subjects = stack.enter_context(_subjects(Path(artifact), against, against_rev))
        order = Order(stack.enter_context(pictures(source)), batches[0], threads, device)
        memory = MemoryLog()
        plan = Plan(
            budget=soak_for or budget,
            enough=_enough(limits, soak_for),
            between=memory.look if soak_for else lambda pids: None,
            progress=_seconds(progress, soak_for or budget),
            seed=seed,
            rounds=soak_for is None,
        )
        recordings = take_turns(subjects, order, plan)
        rates = throughput(subjects[0], order, batches) if len(subjects) == 1 else []
    new = recordings[0]
    found = _Found(side_of(new, rates))
    if len(recordings) == 2:
        found.compare(new, recordings[1], limits)
    found.judge(limits)
    return Report(
        when=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        version=generalad.__version__,
        machine=_machine(threads, noise.noise(recordings)),
        settings={
            "batch": batches[0],
            "threads": threads,
            "device": device,
            "budget": budget,
            "limit": limits.slowdown or comparison.LIMIT,
            "source": DRAWN if source is None else Path(source).name,
            "seed": seed,
            "runs_a_block": len(new.blocks[0].times["total"]),
        },
        new=found.new,
        old=found.old,
        comparisons=found.comparisons,
        verdict=found.verdict,
        sentence=found.sentence,
        gates=tuple(found.gates),
        notes=tuple(found.notes + noise.notes(recordings, before, noise.ticks())),
        soak=soak(new, memory.megabytes) if soak_for else None,
        seconds=round(time.monotonic() - began, 1),
    )


class _Found:
    """What is said about the sides, as it comes together."""

    def __init__(self, new: Side) -> None:
        self.new = new
        self.old: Side | None = None
        self.comparisons: tuple[Comparison, ...] = ()
        self.verdict: Verdict | None = None
        self.sentence = ""
        self.gates: list[Gate] = []
        self.notes: list[str] = []

    def compare(self, new: Recording, old: Recording, limits: Limits) -> None:
        """Ratios, verdict, and the gate on it."""
        limit = limits.slowdown or comparison.LIMIT
        found = comparison.compare(new, old, limit=limit)
        self.old = side_of(old)
        self.comparisons, self.verdict = found.comparisons, found.verdict
        self.sentence = found.sentence
        if found.waiting_counts:
            self.notes.append("ratios include the waiting for cores, because one side waits more")
        if limits.slowdown is not None:
            self.gates.append(gates.slowdown_gate(found.comparisons[-1].ratio, limit))

    def judge(self, limits: Limits) -> None:
        """The gates on the new side alone."""
        if limits.p95 is not None:
            self.gates.append(gates.p95_gate(self.new.stages["total"].p95, limits.p95))
        if limits.memory is not None:
            self.gates.append(gates.memory_gate(self.new.peak_rss or None, limits.memory))


def _check(
    against: str | Path | None,
    against_rev: str | None,
    batches: Sequence[int],
    limits: Limits,
    soak_for: float | None,
) -> None:
    """Refuse what cannot be asked for together."""
    if against is not None and against_rev is not None:
        raise UsageError("compare with an artifact or with a revision, not with both")
    paired = against is not None or against_rev is not None
    if paired and soak_for is not None:
        raise UsageError("a soak watches one artifact", remedy="leave the comparison out")
    if paired and len(batches) > 1:
        raise UsageError(
            "a comparison is made at one batch size", remedy="run it once for each batch size"
        )
    if limits.slowdown is not None and not paired:
        raise UsageError(
            "a slowdown needs something to compare with",
            remedy="add --against, --against-rev or --baseline",
        )


@contextlib.contextmanager
def _subjects(
    artifact: Path, against: str | Path | None, against_rev: str | None
) -> Iterator[list[Subject]]:
    """The new side, and the old one if there is one."""
    if against_rev is not None:
        with checkout(against_rev) as (root, commit):
            yield [
                Subject(artifact.name, artifact.absolute(), revision=own_revision()),
                Subject(artifact.name, artifact.absolute(), root, commit),
            ]
        return
    sides = [artifact] if against is None else [artifact, Path(against)]
    yield [Subject(path.name, path.absolute()) for path in sides]


def _enough(limits: Limits, soak_for: float | None) -> Callable[[Sequence[Recording]], bool]:
    """When more turns are not needed; judged by widths alone, see `narrow_enough`."""
    limit = limits.slowdown or comparison.LIMIT

    def enough(recordings: Sequence[Recording]) -> bool:
        new = recordings[0]
        turns = len(new.blocks)
        if soak_for is not None or turns < comparison.MIN_TURNS or turns % 10:
            return False
        if limits.p95 is not None and not _narrow(new, 0.95, NARROW_P95):
            return False
        if len(recordings) == 2:
            return comparison.narrow_enough(new, recordings[1], limit)
        return _narrow(new, 0.5, NARROW_MEDIAN)

    return enough


def _narrow(recording: Recording, q: float, width: float) -> bool:
    found = estimates.quantile([block.times["total"] for block in recording.blocks], q)
    return found is not None and estimates.half_width(found) <= width


def _seconds(progress: Progress | None, budget: float) -> Callable[[float], None]:
    if progress is None:
        return lambda seconds: None
    return lambda seconds: progress("measuring", int(seconds), int(budget))


def _machine(threads: int | None, noise: float | None) -> Machine:
    return Machine(
        cpu=platform.processor() or platform.machine(),
        cores=usable_cores(),
        architecture=platform.machine(),
        system=platform.platform(terse=True),
        python=platform.python_version(),
        threads=threads,
        noise=noise,
    )


def _interrupted(number: int) -> None:
    """Unwinds at once, which ends the workers and removes the temporary folders."""
    interruption: Any = KeyboardInterrupt("interrupted")
    interruption.signal_number = number
    raise interruption
