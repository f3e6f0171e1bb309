"""What a bench found: one frozen record, JSON in and out. Standard library only.

Times are in milliseconds an image, memory in megabytes (10^6 bytes), ratios are new over old.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = 1
"""Raised by one when a reader of the older form would misunderstand the newer."""

STAGES = ("decode", "preprocess", "upload", "infer", "download", "postprocess", "total")
"""In the order of an image's way; a stage that a backend does not have is left out. `total` is
measured by itself, from the encoded image to the decision."""

Verdict = Literal["slower", "not slower", "same", "faster", "cannot tell"]
"""By how much is the limit's; see `comparison.verdict`."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; both ends None where there are too few samples for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Times:
    """Milliseconds an image over `samples` runs; a quantile is None where there are too few."""

    samples: int
    median: Estimate
    p90: Estimate | None = None
    p95: Estimate | None = None
    p99: Estimate | None = None


@dataclass(frozen=True)
class Throughput:
    """InputImages a second at one batch size and so many sessions at a time."""

    batch: int
    concurrency: int
    images_per_second: Estimate


@dataclass(frozen=True)
class Limit:
    """How far a graph is from what the machine can do.

    Attributes:
        flops: floating-point operations an image, counted from the graph.
        bytes: moved at least: weights once, images in, scores and maps out.
        flops_ceiling: measured, a second.
        bytes_ceiling: measured, a second.
        bound: what the lower bound of the time comes from.
        share: lower bound of the time over the measured time, 0...1.
    """

    flops: float
    bytes: float
    flops_ceiling: float
    bytes_ceiling: float
    bound: Literal["arithmetic", "memory"]
    share: float


@dataclass(frozen=True)
class Side:
    """One artifact, or one checkout of the project, as it was measured.

    Attributes:
        name: as the user wrote it, without folders of this machine.
        sha256: of the artifact's file.
        precision, backend: as they really ran.
        revision: of the project, where checkouts are compared.
        stages: by name, see `STAGES`.
        throughput: by batch and concurrency.
        load: milliseconds to open the session.
        cold: milliseconds of the first image after that.
        peak_rss: of the worker's process.
        gpu_memory: of the worker's process, None without a GPU.
        energy: joules an image, None without a sensor.
        temperature: degrees Celsius at the end, None without a sensor.
        missing: sensors that were not there, and why.
        limit: None where the graph or the machine could not be measured.
        waiting: share of the time that other programs had the cores, None where the system does not
            tell. Ratios leave it out, times do not.
    """

    name: str
    sha256: str
    precision: str
    backend: str
    stages: dict[str, Times]
    load: Estimate
    cold: Estimate
    peak_rss: float
    revision: str | None = None
    throughput: tuple[Throughput, ...] = ()
    gpu_memory: float | None = None
    energy: float | None = None
    temperature: float | None = None
    missing: tuple[str, ...] = ()
    limit: Limit | None = None
    waiting: float | None = None


@dataclass(frozen=True)
class Comparison:
    """One stage of the new side against the old one.

    `ratio` is that of the medians over `pairs` interleaved pairs, with its interval.
    """

    stage: str
    ratio: Estimate
    pairs: int
    verdict: Verdict


@dataclass(frozen=True)
class Gate:
    """A limit that was asked for, and whether it holds; `passed` is None where nobody can tell."""

    name: Literal["slowdown", "p95", "memory", "accuracy"]
    passed: bool | None
    sentence: str


@dataclass(frozen=True)
class Soak:
    """How a long run changed, by robust regression; its first tenth is left out.

    Attributes:
        seconds: of the run.
        latency: of the total, milliseconds an image per hour.
        memory: of the worker's process, megabytes per hour; None where the system does not tell.
    """

    seconds: float
    latency: Estimate
    memory: Estimate | None = None


@dataclass(frozen=True)
class Machine:
    """Where it was measured.

    `reference` holds milliseconds of the reference kernels, by name, run between the pairs.
    `noise` is the median relative difference of neighbouring runs of the same thing.
    """

    cpu: str
    cores: int
    architecture: str
    system: str
    python: str
    gpu: str | None = None
    threads: int | None = None
    reference: dict[str, Estimate] = field(default_factory=dict)
    noise: float | None = None


@dataclass(frozen=True)
class Report:
    """A whole bench. `new` alone is a measurement; with `old` it is a comparison.

    Attributes:
        when: UTC, ISO 8601.
        version: of generalad.
        machine: where.
        settings: of the run: batch, threads, budget, limit, source, seed.
        new, old: the two sides.
        comparisons: for each stage that both sides have.
        verdict: on `total`.
        sentence: the verdict in words, with the stage to look at.
        refusal: why a baseline did not judge this run, or none could be made of it; else empty.
        gates: in the order asked for.
        seconds: that the bench took.
        notes: what else a reader should know, such as unrest of the machine.
        soak: of a long run.
    """

    when: str
    version: str
    machine: Machine
    settings: dict[str, Any]
    new: Side
    seconds: float
    old: Side | None = None
    comparisons: tuple[Comparison, ...] = ()
    verdict: Verdict | None = None
    sentence: str = ""
    refusal: str = ""
    gates: tuple[Gate, ...] = ()
    notes: tuple[str, ...] = ()
    soak: Soak | None = None
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the order of the fields."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """As JSON; NaN is refused."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
