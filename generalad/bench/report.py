"""What a bench found: one frozen record, and its JSON both ways.

Times are in milliseconds an image, memory in megabytes (10^6 bytes), ratios are new over old. The
keys of the JSON are those of the first reports; a field that has another name here says its key.
Docstrings become those of docs/bench.schema.json, by tests/helpers/bench_schema_helpers.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field

from generalad.errors import ArtifactError, DataError
from generalad.records import RecordError, convert, parse_json, to_json
from generalad.statistics import Estimate

SCHEMA: Literal[1] = 1
"""Raised by one when a reader of the older form would misunderstand the newer."""

LARGEST = 16_000_000
"""Bytes of a report that is read; it has some thousands, and a folder may hold anything."""

STAGES = ("decode", "preprocess", "upload", "infer", "download", "postprocess", "total")
"""In the order of an image's way; a stage that a backend does not have is left out. `total` is
measured by itself, from the encoded image to the decision."""

Verdict = Literal["slower", "not slower", "same", "faster", "cannot tell"]
"""By how much is the limit's; see `gates.verdict`."""


class Times(Struct, frozen=True):
    """Milliseconds an image over `samples` runs; a quantile is None where there are too few."""

    samples: int
    median: Estimate
    p90: Estimate | None = None
    p95: Estimate | None = None
    p99: Estimate | None = None


class Throughput(Struct, frozen=True):
    """Images a second at one batch size and so many sessions at a time."""

    batch: int
    concurrency: int
    images_per_second: Estimate = field(name="pictures_per_second")


class Roofline(Struct, frozen=True):
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


class Side(Struct, frozen=True):
    """One artifact, or one checkout of the project, as it was measured.

    Attributes:
        name: as the user wrote it, without folders of this machine.
        sha256: of the artifact's file.
        precision, backend: as they really ran.
        stages: by name, see `STAGES`.
        load: milliseconds to open the session.
        cold: milliseconds of the first image after that.
        peak_rss: of the worker's process.
        revision: of the project, where checkouts are compared.
        throughput: by batch and concurrency.
        gpu_memory: of the worker's process, None without a GPU.
        energy: joules an image, None without a sensor.
        temperature: degrees Celsius at the end, None without a sensor.
        missing: sensors that were not there, and why.
        roofline: None where the graph or the machine could not be measured; the key is `limit`.
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
    roofline: Roofline | None = field(default=None, name="limit")
    waiting: float | None = None

    def __str__(self) -> str:
        return f"{self.name} at {self.revision}" if self.revision else self.name


class Comparison(Struct, frozen=True):
    """One stage of the new side against the old one.

    `ratio` is that of the medians over `pairs` interleaved pairs, with its interval.
    """

    stage: str
    ratio: Estimate
    pairs: int
    verdict: Verdict


class Gate(Struct, frozen=True):
    """A limit that was asked for, and whether it holds; `passed` is None where nobody can tell."""

    name: Literal["slowdown", "p95", "memory", "accuracy"]
    passed: bool | None
    reason: str = field(name="sentence")

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Soak(Struct, frozen=True):
    """How a long run changed, by robust regression; its first tenth is left out.

    Attributes:
        seconds: of the run.
        latency: of the total, milliseconds an image per hour.
        memory: of the worker's process, megabytes per hour; None where the system does not tell.
    """

    seconds: float
    latency: Estimate
    memory: Estimate | None = None


class Machine(Struct, frozen=True):
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
    reference: dict[str, Estimate] = {}
    noise: float | None = None


class BenchReport(Struct, frozen=True, kw_only=True):
    """A whole bench. `new` alone is a measurement; with `old` it is a comparison.

    Attributes:
        when: UTC, ISO 8601.
        version: of generalad.
        machine: where.
        settings: of the run: batch, threads, budget, limit, source, seed.
        new, old: the two sides.
        seconds: that the bench took.
        comparisons: for each stage that both sides have.
        verdict: on `total`.
        verdict_text: the verdict in words, with the stage to look at; the key is `sentence`.
        refusal: why a baseline did not judge this run, or none could be made of it; else empty.
        gates: in the order asked for.
        notes: what else a reader should know, such as noise of the machine.
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
    verdict_text: str = field(default="", name="sentence")
    refusal: str = ""
    gates: tuple[Gate, ...] = ()
    notes: tuple[str, ...] = ()
    soak: Soak | None = None
    schema: Literal[1] = SCHEMA

    def to_json(self) -> str:
        """As JSON; NaN is refused."""
        return to_json(self, indent=2) + "\n"

    @property
    def total(self) -> Comparison | None:
        """The comparison of the total, if there was one."""
        return next((one for one in self.comparisons if one.stage == "total"), None)


def read_report(path: Path) -> BenchReport:
    """Read the file that `gad bench --json` wrote.

    Raises:
        DataError: there is no such file, or it cannot be read.
        ArtifactError: it is no report, or one of another schema.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ArtifactError(f"{path.name} is no bench report: it has more than 16 MB")
        return parse(path.read_text(encoding="utf-8"), path.name)
    except FileNotFoundError:
        remedy = "write one with gad bench --json"
        raise DataError(f"there is no report at {path}", remedy=remedy) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise ArtifactError(f"{path.name} is no bench report: it is not UTF-8 text") from None


def parse(text: str, name: str = "the text") -> BenchReport:
    """The report in `text`; `name` is what messages call it.

    A key that is unknown here is passed over, and one with a default may be absent, because only
    what an older reader would misunderstand raises the schema's number.

    Raises:
        ArtifactError: it is no report, or one of another schema.
    """
    try:
        data = parse_json(text, whole_floats=True)
        if not isinstance(data, dict) or "schema" not in data:
            raise RecordError((), "expected an object with a schema number")
        found = data["schema"]
        if type(found) is int and found == SCHEMA:
            return convert(data, BenchReport)
    except RecordError as error:
        remedy = "give a file that gad bench --json wrote"
        raise ArtifactError(f"{name} is no bench report: {error}", remedy=remedy) from None
    newer = isinstance(found, (int, float)) and found > SCHEMA
    raise ArtifactError(
        f"{name} has schema {json.dumps(found)[:40]}, this version reads schema {SCHEMA}",
        remedy="upgrade generalad" if newer else "run gad bench again",
    )
