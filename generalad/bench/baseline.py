"""Baselines that travel: a stage's time as a multiple of reference kernels run between its blocks.

    relative_times(...)  ->  make_baseline(report, relative)  ->  save_baseline
    load_baseline  ->  judgement.check  (measure)  judgement.judge

A stored number of milliseconds means nothing on another machine, nor on the same one in another
hour. A multiple of kernels that ran in between means the same as long as the machine's speed is one
factor.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from generalad.bench import estimates
from generalad.bench.quantities import percent
from generalad.bench.record import Estimate, Machine, Report
from generalad.errors import ArtifactError, GadError
from generalad.files import read_json, write_json

SCHEMA = 1
"""Raised when the kernels or the meaning of a field change: older baselines are then refused."""

UNREST = 0.05
"""Waiting or noise above which several threads of a network do not keep step with the kernels: they
wait for one another, and the kernels' do not."""


@dataclass(frozen=True)
class Conditions:
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


@dataclass(frozen=True)
class Baseline:
    """What a later bench is judged by.

    Attributes:
        artifact, when, version: of the report it was made from.
        cpu: name of the processor; another one is no reason to refuse, but travels farther.
        conditions: see there.
        reference: milliseconds of the kernels, by name.
        relative: of each stage, its time over the sum of the kernels'.
    """

    artifact: str
    when: str
    version: str
    cpu: str
    conditions: Conditions
    reference: dict[str, Estimate]
    relative: dict[str, Estimate]
    schema: int = SCHEMA


def relative_times(
    stages: Mapping[str, Sequence[float]], references: Sequence[Mapping[str, float]]
) -> dict[str, Estimate]:
    """Each stage's time over the kernels', turn by turn, so that the machine's state cancels.

    Args:
        stages: milliseconds an image without waiting (`Block.own`), one value a turn: the median
            of its block.
        references: what `run_references` returned in each turn.

    Returns:
        The median over the turns with its interval, by stage.

    Raises:
        ValueError: the numbers of turns differ.
    """
    unit = np.log([sum(times.values()) for times in references])
    found = {}
    for stage, times in stages.items():
        if len(times) != len(unit):
            raise ValueError(f"{len(times)} turns of {stage}, {len(unit)} of the kernels")
        logs = estimates.bootstrap(np.log(times) - unit, lambda some: np.median(some, axis=-1))
        found[stage] = _exponential(logs)
    return found


def reference_times(references: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """The kernels' milliseconds as `Machine.reference` holds them: medians with intervals."""
    return {
        name: estimates.bootstrap(
            np.array([times[name] for times in references]), lambda some: np.median(some, axis=-1)
        )
        for name in references[0]
    }


def make_baseline(report: Report, relative: Mapping[str, Estimate]) -> Baseline:
    """A baseline of the report's new side.

    Args:
        report: with `machine.reference`.
        relative: see `relative_times`, of the same run.

    Raises:
        GadError: the run is no yardstick: too short, or several threads on an unquiet machine.
    """
    if any(value.low is None for value in relative.values()):
        raise GadError(
            "the run was too short for a baseline: its times have no interval",
            remedy="give it a longer --budget",
        )
    check_rest(report)
    return Baseline(
        artifact=report.new.name,
        when=report.when,
        version=report.version,
        cpu=report.machine.cpu,
        conditions=conditions_of(report),
        reference=dict(report.machine.reference),
        relative=dict(relative),
    )


def save_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline as JSON, whole or not at all; raises StorageError."""
    write_json(path, asdict(baseline))


def load_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        ArtifactError: missing, no baseline, or of another schema.
    """
    raw = read_json(path)
    if not isinstance(raw, dict) or "relative" not in raw or "schema" not in raw:
        raise ArtifactError(
            f"{path}: not a baseline of gad bench", remedy="make one with --save-baseline"
        )
    if raw["schema"] != SCHEMA:
        raise ArtifactError(
            f"{path}: expected a baseline of schema {SCHEMA}, found {raw['schema']}",
            remedy="make it again with this version",
        )
    try:
        return _from_dict(raw)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path}: a damaged baseline ({type(error).__name__}: {error})",
            remedy="make it again with --save-baseline",
        ) from error


def conditions_of(report: Report) -> Conditions:
    """Under which the report's new side was measured."""
    settings = report.settings
    return conditions(
        report.machine,
        backend=report.new.backend,
        precision=report.new.precision,
        input_size=settings["image_size"],
        batch=settings["batch"],
        source=settings["source"],
    )


def conditions(
    machine: Machine,
    *,
    backend: str,
    precision: str,
    input_size: Sequence[int],
    batch: int,
    source: str,
) -> Conditions:
    """Conditions as baselines hold them; `backend` with its whole version."""
    height, width = input_size
    return Conditions(
        architecture=machine.architecture,
        gpu=machine.gpu,
        threads=machine.threads,
        backend=re.sub(r"(\d+)(\.\d+)+", r"\1", backend),
        precision=precision,
        input_size=(height, width),
        batch=batch,
        source=source,
    )


def check_rest(report: Report) -> None:
    """Refuse several threads on a machine that others use: nothing measured follows them then."""
    if report.machine.threads == 1:
        return
    unrest = {"waiting for cores": report.new.waiting, "noise": report.machine.noise}
    found = [
        f"{name} {percent(value)}"
        for name, value in unrest.items()
        if value is not None and value > UNREST
    ]
    if found:
        raise GadError(
            f"several threads on a machine that is not quiet ({', '.join(found)}; at most"
            f" {percent(UNREST)}) follow no reference kernels",
            remedy="use --threads 1, or --against, which needs no quiet machine",
        )


def _exponential(logs: Estimate) -> Estimate:
    low, high = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
    return Estimate(math.exp(logs.value), low, high)


def _from_dict(raw: dict[str, Any]) -> Baseline:
    """Every field with its type checked; extra ones are errors."""
    given = dict(raw["conditions"])
    height, width = given.pop("input_size")
    values = {**raw, "conditions": Conditions(input_size=(height, width), **given)}
    for name in ("reference", "relative"):
        values[name] = {key: _estimate(value) for key, value in raw[name].items()}
    if "total" not in values["relative"]:
        raise ValueError("no time of the total")
    return Baseline(**values)


def _estimate(raw: dict[str, Any]) -> Estimate:
    estimate = Estimate(**raw)
    for value in (estimate.value, estimate.low, estimate.high):
        if not (isinstance(value, float | int) and value > 0 and math.isfinite(value)):
            raise ValueError(f"expected positive numbers, found {value}")
    return estimate
