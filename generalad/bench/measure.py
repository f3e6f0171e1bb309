"""`bench`: measure an artifact, alone or against another one, and judge the limits asked for.

images -> take_turns (a process for each side) -> compare, or a baseline -> gates -> Report
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import generalad
from generalad.bench import comparison, gates, noise
from generalad.bench.baseline import (
    Baseline,
    conditions,
    load_baseline,
    make_baseline,
    reference_times,
    relative_times,
)
from generalad.bench.baseline import save_baseline as save
from generalad.bench.beside import Beside
from generalad.bench.ceilings import Device
from generalad.bench.checkout import checkout, own_revision
from generalad.bench.gates import Limits
from generalad.bench.images import DRAWN, images
from generalad.bench.judgement import check as check_baseline
from generalad.bench.judgement import judge as judge_by_baseline
from generalad.bench.limit import limit_of
from generalad.bench.machine import describe_machine
from generalad.bench.process import Facts, Order, Subject, Worker, may_use_gpu
from generalad.bench.record import Estimate, Machine, Report
from generalad.bench.reference import run_references
from generalad.bench.sensors import read_sensors
from generalad.bench.side import Flow, flow, side_of
from generalad.bench.soak import soak
from generalad.bench.stopping import stopping
from generalad.bench.turns import Plan, Recording, take_turns
from generalad.bench.usage import check_usage
from generalad.errors import GadError
from generalad.files import check_writable
from generalad.progress import Progress
from generalad.runtime.interrupt import on_interrupt

BUDGET = 60.0

SOAK_BLOCKS = 4000
"""Blocks of a soak that are kept, evenly over its time."""

NO_LIMITS = Limits()


def bench(
    artifact: str | Path,
    *,
    against: str | Path | None = None,
    against_rev: str | None = None,
    baseline: str | Path | None = None,
    save_baseline: str | Path | None = None,
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
        baseline: a file that stands for the old side; made here or on another machine.
        save_baseline: write such a file of this run.
        source: a folder, pattern or video; None takes drawn parts.
        batches: images a run. Stages are those of the first; throughput is measured at each.
        threads: as `open_session` takes them.
        device: the same.
        limits: which gates there are.
        budget: seconds of the turns at most; throughput and the machine's ceilings, which are
            measured where nothing is compared, take some more.
        soak_for: seconds of a long run, whose drift is reported; takes the place of the budget.
        seed: of the order of the sides.
        progress: told how far each stage is.

    Raises:
        UsageError: options exclude each other, the inputs differ, the budget is too short, or the
            revision cannot be had.
        ArtifactError: the baseline is none, or of another schema.
        StorageError: the baseline could not be saved.
        GadError: the baseline can never judge this artifact here, the GPU is busy, an artifact
            cannot be opened, or a process died or hangs.
    """
    check_usage(against, against_rev, baseline, save_baseline, batches, limits, soak_for)
    if save_baseline is not None:
        check_writable(Path(save_baseline))
    began, before = time.monotonic(), noise.ticks()
    tell = progress or (lambda stage, done, total: None)
    stored = None if baseline is None else load_baseline(Path(baseline))
    settings: dict[str, Any] = {
        "batch": batches[0],
        "threads": threads,
        "device": device,
        "budget": soak_for or budget,
        "limit": limits.slowdown or comparison.LIMIT,
        "source": DRAWN if source is None else Path(source).name,
        "seed": seed,
    }
    beside = Beside(
        threads=threads,
        references=stored is not None or save_baseline is not None,
        memory=soak_for is not None,
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_interrupt(_interrupted))
        subjects = stack.enter_context(_subjects(Path(artifact), against, against_rev))
        order = Order(stack.enter_context(images(source)), batches[0], threads, device)
        _check_gpu(subjects, order)
        if stored is not None:
            _check_baseline(stored, subjects[0], order, settings)
        whole = math.ceil(settings["budget"])
        plan = Plan(
            budget=settings["budget"],
            enough=stopping(limits, soak_for),
            between=beside,
            progress=lambda seconds: tell("measuring", int(seconds), whole),
            seed=seed,
            rounds=soak_for is None,
            spacing=soak_for / SOAK_BLOCKS if soak_for else 0.0,
        )
        recordings = take_turns(subjects, order, plan)
        unrest = noise.notes(recordings, before, noise.ticks())
        took = math.ceil(recordings[0].moments[-1])  # less than the budget, once enough is known
        tell("measuring", took, took)
        alone = len(subjects) == 1
        flowing = flow(subjects[0], order, batches, progress=tell) if alone else None
    report = _compared(_report(recordings, flowing, beside, settings, unrest), recordings)
    if beside.references:
        relative = relative_times(recordings[0].own_medians(), beside.references)
        report = _travelled(report, relative, stored, save_baseline)
    if soak_for is not None:
        report = dataclasses.replace(report, soak=soak(recordings[0], beside.megabytes))
    elif alone:
        tell("ceilings", 0, 1)
        own = statistics.median(recordings[0].own_medians()["infer"])
        report = _with_limit(report, own, Path(artifact))
        tell("ceilings", 1, 1)
    return dataclasses.replace(
        report,
        gates=gates.judge(limits, report.new, report.comparisons),
        seconds=round(time.monotonic() - began, 1),
    )


def _report(
    recordings: Sequence[Recording],
    flowing: Flow | None,
    beside: Beside,
    settings: dict[str, Any],
    unrest: Sequence[str],
) -> Report:
    """What was measured of the new side, without any judgement."""
    new = recordings[0]
    machine = dataclasses.replace(
        _machine(new.facts, settings["threads"]),
        noise=noise.noise(recordings),
        reference=reference_times(beside.references) if beside.references else {},
    )
    return Report(
        when=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        version=generalad.__version__,
        machine=machine,
        settings={
            **settings,
            "image_size": list(new.facts.image_size),
            "runs_a_block": len(new.blocks[0].times["total"]),
        },
        new=side_of(new, flowing),
        notes=(*_padded(recordings, settings["batch"]), *unrest),
        seconds=0.0,
    )


def _compared(report: Report, recordings: Sequence[Recording]) -> Report:
    """With ratios and verdict, if there are two sides."""
    if len(recordings) < 2:
        return report
    new, old = recordings
    found = comparison.compare(new, old, limit=report.settings["limit"])
    counted = "ratios include the waiting for cores, because one side waits more than the other"
    return dataclasses.replace(
        report,
        old=side_of(old),
        comparisons=found.comparisons,
        verdict=found.verdict,
        sentence=found.sentence,
        notes=(*report.notes, counted) if found.waiting_counts else report.notes,
    )


def _travelled(
    report: Report,
    relative: dict[str, Estimate],
    stored: Baseline | None,
    target: str | Path | None,
) -> Report:
    """With ratios and verdict against a baseline, and made into one; or why not.

    The measurement is not lost by a refusal: the report holds it.
    """
    refusals = []
    if target is not None:
        try:
            save(Path(target), make_baseline(report, relative))
        except GadError as error:
            refusals.append(f"no baseline was written: {error}")
    if stored is not None:
        try:
            found = judge_by_baseline(report, relative, stored, report.settings["limit"])
        except GadError as error:
            refusals.append(str(error))
        else:
            report = dataclasses.replace(
                report,
                comparisons=found.comparisons,
                verdict=found.verdict,
                sentence=found.sentence,
            )
    return dataclasses.replace(report, refusal="; ".join(refusals))


def _with_limit(report: Report, infer: float, artifact: Path) -> Report:
    """With what the machine could do at best; `infer` is without the waiting."""
    device: Device = "cpu" if report.machine.gpu is None else "cuda"
    threads, batch = report.settings["threads"], report.settings["batch"]
    limit, words = limit_of(artifact, infer, threads, batch=batch, device=device)
    if limit is None:
        side = dataclasses.replace(report.new, missing=(*report.new.missing, words))
        return dataclasses.replace(report, new=side)
    side = dataclasses.replace(report.new, limit=limit)
    return dataclasses.replace(report, new=side, notes=(*report.notes, words))


def _check_gpu(subjects: Sequence[Subject], order: Order) -> None:
    """Refuse a GPU that others use, before anything of ours is on it."""
    why = read_sensors().gpu_is_busy()
    if why is not None and any(may_use_gpu(subject, order) for subject in subjects):
        raise GadError(why, remedy="wait for them to end, or measure with --device cpu")


def _check_baseline(
    stored: Baseline, subject: Subject, order: Order, settings: dict[str, Any]
) -> None:
    """Refuse a baseline that can never judge this artifact here, before time is spent."""
    with Worker(subject, order) as worker:
        facts = worker.facts
    here = conditions(
        _machine(facts, order.threads),
        backend=facts.backend,
        precision=facts.precision,
        input_size=facts.image_size,
        batch=order.batch,
        source=settings["source"],
    )
    check_baseline(here, run_references(order.threads), stored)


def _machine(facts: Facts, threads: int | None) -> Machine:
    """This machine, with its GPU where the artifact runs on it."""
    return describe_machine(threads, read_sensors().gpu if facts.on_gpu else None)


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


def _padded(recordings: Sequence[Recording], batch: int) -> list[str]:
    """Artifacts of a fixed batch size whose batches are filled up; that costs time."""
    return [
        f"{r.subject.name} is made for batches of {r.facts.fixed_batch}, others are padded to it"
        for r in recordings
        if r.facts.fixed_batch is not None and batch % r.facts.fixed_batch
    ]


def _interrupted(number: int) -> None:
    """Unwinds at once, which ends the workers and removes the temporary folders."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
