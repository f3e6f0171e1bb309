"""`bench`: measure an artifact, alone or against another one, and judge the limits asked for.

images -> interleaved (a process for each side) -> comparison, or a baseline -> gates -> report
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import math
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

import generalad
from generalad.bench import baseline as baselines
from generalad.bench import summary
from generalad.bench.checkout import subjects_of
from generalad.bench.comparison import Compared, compare, precise_enough
from generalad.bench.gates import LIMIT, Limits, judge_limits
from generalad.bench.images import DRAWN, images
from generalad.bench.interleaved import Plan, Recording, measure_interleaved
from generalad.bench.machine import describe_machine, read_sensors
from generalad.bench.reference import run_references
from generalad.bench.report import BenchReport, Machine
from generalad.bench.roofline import roofline_of
from generalad.bench.worker_process import Facts, RunOptions, Subject, WorkerProcess, may_use_gpu
from generalad.errors import GadError, UsageError
from generalad.files import check_writable
from generalad.progress import Progress, no_progress
from generalad.runtime.interrupt import on_interrupt
from generalad.statistics import Estimate

BUDGET = 60.0
SOAK_BLOCKS = 4000  # of a soak that are kept, evenly over its time
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
    progress: Progress = no_progress,
) -> BenchReport:
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
        progress: told how far each stage is; "measuring" counts seconds.

    Raises:
        UsageError: options exclude each other, the inputs differ, the budget is too short, or the
            revision cannot be had.
        ArtifactError: the baseline is none, or of another schema.
        StorageError: the baseline could not be saved.
        GadError: the baseline can never judge this artifact here, the GPU is busy, an artifact
            cannot be opened, or a process died or hangs.
    """
    _check_options(against, against_rev, baseline, save_baseline, batches, limits, soak_for)
    if save_baseline is not None:
        check_writable(Path(save_baseline))
    began, before = time.monotonic(), summary.ticks()
    stored = None if baseline is None else baselines.load_baseline(Path(baseline))
    settings: dict[str, Any] = {
        "batch": batches[0],
        "threads": threads,
        "device": device,
        "budget": soak_for or budget,
        "limit": limits.slowdown or LIMIT,
        "source": DRAWN if source is None else Path(source).name,
        "seed": seed,
    }
    references: list[dict[str, float]] = []

    def between() -> None:
        if stored is not None or save_baseline is not None:
            references.append(run_references(threads))

    whole = math.ceil(settings["budget"])
    plan = Plan(
        budget=settings["budget"],
        enough=precise_enough(limits),
        between=between,
        # The last turn ends after the budget, and only then does the stage.
        progress=lambda seconds: progress("measuring", min(int(seconds), whole - 1), whole),
        seed=seed,
        reopens=soak_for is None,
        spacing=soak_for / SOAK_BLOCKS if soak_for else 0.0,
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_interrupt(_interrupted))
        subjects = stack.enter_context(subjects_of(Path(artifact), against, against_rev))
        options = RunOptions(stack.enter_context(images(source)), batches[0], threads, device)
        _check_gpu(subjects, options)
        if stored is not None:
            _check_baseline(stored, subjects[0], options, settings)
        recordings = measure_interleaved(subjects, options, plan)
        notes = summary.notes(recordings, before, summary.ticks())
        took = math.ceil(recordings[0].moments[-1])  # less than the budget, once enough is known
        progress("measuring", took, took)
        rates = None
        if len(subjects) == 1:
            rates = summary.saturate(subjects[0], options, batches, progress=progress)
    report = _report(recordings, rates, references, settings, notes)
    if len(recordings) == 2:
        report = _compared(report, recordings)
    if references:
        relative = baselines.relative_times(recordings[0], references)
        report = _with_baseline(report, relative, stored, save_baseline)
    if soak_for is not None:
        report = replace(report, soak=summary.soak_of(recordings[0]))
    elif len(recordings) == 1:
        progress("ceilings", 0, 1)
        report = _with_roofline(report, recordings[0], Path(artifact))
        progress("ceilings", 1, 1)
    gates = judge_limits(limits, report.new, report.comparisons)
    return replace(report, gates=gates, seconds=round(time.monotonic() - began, 1))


def _check_options(
    against: str | Path | None,
    against_rev: str | None,
    baseline: str | Path | None,
    save_baseline: str | Path | None,
    batches: Sequence[int],
    limits: Limits,
    soak_for: float | None,
) -> None:
    """Refuse, with a UsageError, what cannot be asked of one bench together."""
    others = {"an artifact": against, "a revision": against_rev, "a baseline": baseline}
    named = [name for name, value in others.items() if value is not None]
    paired = against is not None or against_rev is not None
    if len(named) > 1:
        message = f"a bench compares with one thing only, found {' and '.join(named)}"
        raise UsageError(message, remedy="leave all but one out")
    if soak_for is not None and (named or save_baseline is not None):
        raise UsageError("a soak watches one artifact", remedy="leave the comparison out")
    if paired and save_baseline is not None:
        raise UsageError("a baseline is made of one artifact", remedy="leave the comparison out")
    if paired and len(batches) > 1:
        message = "a comparison is made at one batch size"
        raise UsageError(message, remedy="run it once for each batch size")
    if limits.slowdown is not None and not named:
        message = "a slowdown needs something to compare with"
        raise UsageError(message, remedy="add --against, --against-rev or --baseline")


def _report(
    recordings: Sequence[Recording],
    rates: summary.Saturated | None,
    references: Sequence[dict[str, float]],
    settings: dict[str, Any],
    notes: list[str],
) -> BenchReport:
    """What was measured of the new side, and where."""
    new, batch = recordings[0], settings["batch"]
    for side, facts in ((r.subject.name, r.facts) for r in recordings):
        if facts.fixed_batch is not None and batch % facts.fixed_batch:
            padded = f"{side} is made for batches of {facts.fixed_batch}, others are padded to it"
            notes = [padded, *notes]
    machine, noise = _machine(new.facts, settings["threads"]), summary.noise(recordings)
    reference = baselines.reference_times(references) if references else {}
    size, runs = list(new.facts.image_size), len(new.blocks[0].times["total"])
    return BenchReport(
        when=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        version=generalad.__version__,
        machine=replace(machine, noise=noise, reference=reference),
        settings={**settings, "image_size": size, "runs_a_block": runs},
        new=summary.side_of(new, rates),
        notes=tuple(notes),
        seconds=0.0,
    )


def _compared(report: BenchReport, recordings: Sequence[Recording]) -> BenchReport:
    """With the old side, ratios and verdict."""
    found, notes = compare(*recordings, limit=report.settings["limit"]), report.notes
    if found.waiting_counts:
        words = "ratios include the waiting for cores, because one side waits more than the other"
        notes = (*notes, words)
    return _judged(replace(report, old=summary.side_of(recordings[1]), notes=notes), found)


def _judged(report: BenchReport, found: Compared) -> BenchReport:
    ratios = found.comparisons
    return replace(report, comparisons=ratios, verdict=found.verdict, verdict_text=found.text)


def _with_baseline(
    report: BenchReport,
    relative: dict[str, Estimate],
    stored: baselines.Baseline | None,
    target: str | Path | None,
) -> BenchReport:
    """With ratios and verdict against a baseline, and made into one; or why not.

    The measurement is not lost by a refusal: the report holds it.
    """
    refusals, limit = [], report.settings["limit"]
    if target is not None:
        try:
            baselines.save_baseline(Path(target), baselines.make_baseline(report, relative))
        except GadError as error:
            refusals.append(f"no baseline was written: {error}")
    if stored is not None:
        try:
            found = baselines.compare_with_baseline(report, relative, stored, limit)
            report = _judged(report, found)
        except GadError as error:
            refusals.append(str(error))
    return replace(report, refusal="; ".join(refusals))


def _with_roofline(report: BenchReport, recording: Recording, artifact: Path) -> BenchReport:
    """With what the machine could do at best; compared with times without the waiting."""
    found, words = roofline_of(
        artifact,
        statistics.median(itertools.chain(*recording.medians("infer"))),
        report.settings["threads"],
        batch=report.settings["batch"],
        device="cpu" if report.machine.gpu is None else "cuda",
        precision=recording.facts.precision,
        computed=recording.facts.computed,
        image_size=recording.facts.image_size,
    )
    if found is None:
        return replace(report, new=replace(report.new, missing=(*report.new.missing, words)))
    new = replace(report.new, roofline=found)
    return replace(report, new=new, notes=(*report.notes, words))


def _check_gpu(subjects: Sequence[Subject], options: RunOptions) -> None:
    """Refuse a GPU that others use, before anything of ours is on it."""
    why = read_sensors().gpu_is_busy()
    if why is not None and any(may_use_gpu(subject, options) for subject in subjects):
        raise GadError(why, remedy="wait for them to end, or measure with --device cpu")


def _check_baseline(
    stored: baselines.Baseline, subject: Subject, options: RunOptions, settings: dict[str, Any]
) -> None:
    """Refuse a baseline that can never judge this artifact here, before time is spent."""
    with WorkerProcess(subject, options) as worker:
        facts = worker.facts
    machine, size = _machine(facts, options.threads), {"image_size": facts.image_size}
    here = baselines.conditions(machine, facts, {**settings, **size})
    baselines.check_conditions(here, run_references(options.threads), stored)


def _machine(facts: Facts, threads: int | None) -> Machine:
    """This machine, with its GPU where the artifact runs on it."""
    return describe_machine(threads, read_sensors().gpu if facts.on_gpu else None)


def _interrupted(number: int) -> None:
    """Unwinds at once, which ends the workers and removes the temporary folders."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
