"""Baselines that travel: a stage's time as a multiple of reference kernels run between its blocks.

The ratio of a stage is its multiple here over that of the baseline, which cancels the machine's
speed as long as that is one factor. What makes a comparison senseless is refused: before measuring
by `check_conditions`, and where only measuring shows it by `compare_with_baseline`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from generalad.bench.comparison import Compared
from generalad.bench.gates import percent, verdict, verdict_text
from generalad.bench.interleaved import Recording
from generalad.bench.report import BenchReport, Comparison, Machine, Side
from generalad.bench.worker_process import Facts
from generalad.errors import ArtifactError, GadError
from generalad.files import read_json, write_json
from generalad.records import convert
from generalad.statistics import Estimate, median_estimate, nested_ratio

SCHEMA = 1
"""Raised when the kernels or the meaning of a field change: older baselines are then refused."""

NOISE = 0.05
"""Waiting or noise above which several threads of a network do not keep step with the kernels: they
wait for one another, and the kernels' do not."""

RESIDUAL = 0.02
"""Standard deviation, of the logarithm, of a network's time over the kernels' on one machine in
different states, alone and beside programs that compute or copy: 0.010 to 0.017, measured."""

SAME_CPU = 1 / 8
"""What the kernels' disagreement adds to that on the same processor, as a share of its range: there
it comes from programs that use the memory, which move the copy more than any network. Measured."""

OTHER_CPU = 1 / math.sqrt(12)
"""The same on another processor, where the network's factor may lie anywhere between the kernels':
the deviation of a uniform distribution over their range. Assumed, not measured."""

DISAGREE = 0.35
"""Largest range of the kernels' logarithmic factors that a single factor may stand for."""

_NORMAL = 1.96  # standard deviations of a 95 % interval


class Conditions(Struct, frozen=True, forbid_unknown_fields=True):
    """What must be equal for two times to be compared at all, in words for people.

    `architecture` is that of `Machine`, with the instruction sets; `backend` is without minor
    versions; `source` because decoding depends on the images.
    """

    architecture: str
    gpu: str | None
    threads: int | None
    backend: str
    precision: str
    input_size: tuple[int, int]
    batch: int
    source: str


class Baseline(Struct, frozen=True, forbid_unknown_fields=True):
    """What a later bench is judged by."""

    artifact: str  # this and the next two: of the report it was made from
    when: str
    version: str
    cpu: str  # the processor's name; another one is no reason to refuse, but travels farther
    conditions: Conditions
    reference: dict[str, Estimate]  # milliseconds of the kernels, by name
    relative: dict[str, Estimate]  # of each stage, its time over the sum of the kernels'
    schema: int = SCHEMA


def relative_times(
    recording: Recording, references: Sequence[Mapping[str, float]]
) -> dict[str, Estimate]:
    """Each stage's time over the kernels', turn by turn, so that the machine's state cancels.

    Times are without waiting; of each turn `references` holds what `run_references` returned.
    """
    if len(recording.blocks) != len(references):
        raise ValueError(f"{len(recording.blocks)} turns, {len(references)} of the kernels")
    ends = np.cumsum([len(opening.blocks) for opening in recording.openings])
    units = np.split(np.log([sum(times.values()) for times in references]), ends[:-1])
    return {
        stage: nested_ratio(
            [np.log(t) - unit for t, unit in zip(recording.medians(stage), units, strict=True)]
        )
        for stage in recording.blocks[0].times
    }


def reference_times(references: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """The kernels' milliseconds as `Machine.reference` holds them: medians with intervals."""
    return {name: median_estimate([times[name] for times in references]) for name in references[0]}


def make_baseline(report: BenchReport, relative: Mapping[str, Estimate]) -> Baseline:
    """A baseline of the report's new side, with the `relative_times` of the same run.

    Raises:
        GadError: the run is no yardstick: too short, or several threads on a noisy machine.
    """
    if any(value.low is None for value in relative.values()):
        message = "the run was too short for a baseline: its times have no interval"
        raise GadError(message, remedy="give it a longer --budget")
    _check_noise(report)
    return Baseline(
        artifact=report.new.name,
        when=report.when,
        version=report.version,
        cpu=report.machine.cpu,
        conditions=conditions(report.machine, report.new, report.settings),
        reference=report.machine.reference,
        relative=dict(relative),
    )


def save_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline as JSON, whole or not at all; raises StorageError."""
    write_json(path, msgspec.to_builtins(baseline))


def load_baseline(path: Path) -> Baseline:
    """Read a baseline; raises ArtifactError if it is missing, none, or of another schema."""
    raw = read_json(path)
    if not isinstance(raw, dict) or "relative" not in raw or "schema" not in raw:
        message = f"{path}: not a baseline of gad bench"
        raise ArtifactError(message, remedy="make one with --save-baseline")
    if raw["schema"] != SCHEMA:
        message = f"{path}: expected a baseline of schema {SCHEMA}, found {raw['schema']}"
        raise ArtifactError(message, remedy="make it again with this version")
    try:
        baseline = convert(raw, Baseline)
        for value in (*baseline.reference.values(), *baseline.relative.values()):
            ends = (value.value, value.low, value.high)
            if not all(end is not None and 0 < end < math.inf for end in ends):
                raise ValueError(f"expected positive numbers, found {value}")
        if "total" not in baseline.relative:
            raise ValueError("no time of the total")
    except ValueError as error:
        message = f"{path}: a damaged baseline ({error})"
        raise ArtifactError(message, remedy="make it again with --save-baseline") from error
    return baseline


def conditions(machine: Machine, ran: Side | Facts, settings: Mapping[str, Any]) -> Conditions:
    """Those of a run with the settings of a report; of a backend the major version is enough."""
    height, width = settings["image_size"]
    return Conditions(
        architecture=machine.architecture,
        gpu=machine.gpu,
        threads=machine.threads,
        backend=re.sub(r"(\d+)(\.\d+)+", r"\1", ran.backend),
        precision=ran.precision,
        input_size=(height, width),
        batch=settings["batch"],
        source=settings["source"],
    )


def check_conditions(here: Conditions, kernels: Collection[str], baseline: Baseline) -> None:
    """Refuse, with every reason, a run that the baseline can never judge; raises GadError."""
    differ = [
        f"{name.replace('_', ' ')} is {_words(found)}, the baseline's {_words(expected)}"
        for name in Conditions.__struct_fields__
        if (found := getattr(here, name)) != (expected := getattr(baseline.conditions, name))
    ]
    if set(kernels) != baseline.reference.keys():
        differ.append("other reference kernels were run")
    if differ:
        raise _refused(baseline, "; ".join(differ))


def compare_with_baseline(
    report: BenchReport, relative: Mapping[str, Estimate], baseline: Baseline, limit: float
) -> Compared:
    """Judge the report's new side, with the `relative_times` of the same run, by a baseline.

    Raises:
        GadError: the two cannot be compared, with every reason.
    """
    new, machine = report.new, report.machine
    check_conditions(conditions(machine, new, report.settings), machine.reference, baseline)
    _check_noise(report)
    # How much longer each kernel takes here, as logarithms.
    there = baseline.reference
    factors = {name: math.log(machine.reference[name].value / there[name].value) for name in there}
    apart = max(factors.values()) - min(factors.values())
    if apart > DISAGREE:
        speeds = ", ".join(f"{name} {math.exp(-f):.2f}" for name, f in factors.items())
        words = f"no single factor describes this machine: it runs {speeds} times as fast"
        raise _refused(baseline, words)
    share = SAME_CPU if machine.cpu == baseline.cpu else OTHER_CPU
    deviation = math.hypot(RESIDUAL, share * apart)
    comparisons = []
    for stage, old in baseline.relative.items():
        if stage in relative:
            ratio = _ratio(relative[stage], old, deviation)
            samples = new.stages[stage].samples
            comparisons.append(Comparison(stage, ratio, samples, verdict(ratio, limit)))
    speed = math.exp(-sum(factors.values()) / len(factors))
    travel = math.exp(_NORMAL * deviation) - 1
    text = verdict_text(
        next(one.ratio for one in comparisons if one.stage == "total"),
        limit,
        sides=(new.name, f"the baseline of {baseline.when[:10]}"),
        basis=f"on a machine {speed:.2f} times as fast; the way between them accounts for "
        f"{percent(round(travel, 3))}",
        given="from this baseline",
    )
    return Compared(tuple(comparisons), text, speed=speed, travel=travel)


def _check_noise(report: BenchReport) -> None:
    """Refuse several threads on a machine that others use: nothing measured follows them then."""
    shares = {"waiting for cores": report.new.waiting or 0, "noise": report.machine.noise or 0}
    found = [f"{name} {percent(value)}" for name, value in shares.items() if value > NOISE]
    if found and report.machine.threads != 1:
        raise GadError(
            f"several threads on a machine that is not quiet ({', '.join(found)}; at most"
            f" {percent(NOISE)}) follow no reference kernels",
            remedy="use --threads 1, or --against, which needs no quiet machine",
        )


def _ratio(new: Estimate, old: Estimate, deviation: float) -> Estimate:
    """New over old, with the uncertainty of both and of the way between them."""
    value, variance = math.log(new.value / old.value), deviation**2
    for one in (new, old):
        if one.low is None or one.high is None:
            return Estimate(math.exp(value))
        variance += (math.log(one.high / one.low) / (2 * _NORMAL)) ** 2
    half = _NORMAL * math.sqrt(variance)
    return Estimate(math.exp(value), math.exp(value - half), math.exp(value + half))


def _refused(baseline: Baseline, why: str) -> GadError:
    return GadError(
        f"the baseline of {baseline.when[:10]} ({baseline.artifact}) cannot judge this run: {why}",
        remedy="make a baseline under these conditions, or compare with --against",
    )


def _words(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value or "none")
