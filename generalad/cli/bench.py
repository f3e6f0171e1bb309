"""`gad bench`, and the quantities that its options are written in."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from generalad.cli.options import Argument, Device, Option, Threads
from generalad.errors import GadError, GateError, UsageError

if TYPE_CHECKING:
    from generalad.bench.report import BenchReport

COMPARE = "Compare with"
LIMITS = "Limits: exit 3 if it surely has more"
OUTPUTS = "Outputs"

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def bench(
    artifact: Annotated[Path, Argument("Exported file, such as model.onnx.")],
    against: Annotated[
        Path | None,
        Option("Another artifact.", metavar="OTHER", group=COMPARE),
    ] = None,
    against_rev: Annotated[
        str | None,
        Option("An older revision of generalad.", metavar="REV", group=COMPARE),
    ] = None,
    baseline: Annotated[
        Path | None,
        Option("A baseline, made here or elsewhere.", metavar="FILE", group=COMPARE),
    ] = None,
    save_baseline: Annotated[
        Path | None,
        Option("A baseline of this run.", metavar="FILE", group=OUTPUTS),
    ] = None,
    max_slowdown: Annotated[
        str | None,
        Option("Time more than the other takes.", metavar="5%", group=LIMITS),
    ] = None,
    max_p95: Annotated[
        float | None,
        Option("p95 of an image.", metavar="MS", group=LIMITS),
    ] = None,
    max_memory: Annotated[
        float | None,
        Option("Memory of its process.", metavar="MB", group=LIMITS),
    ] = None,
    source: Annotated[
        str | None,
        Option("Folder, pattern or video.", metavar="PATH", default="drawn parts"),
    ] = None,
    batch: Annotated[str, Option("Images a run.", metavar="N[,N…]")] = "1",
    threads: Threads = None,
    device: Device = None,
    budget: Annotated[str, Option("Time of the turns at most.", metavar="60s")] = "60s",
    soak: Annotated[
        str | None, Option("Run so long; latency's and memory's drift.", metavar="30m")
    ] = None,
    json: Annotated[
        str | None,
        Option("The report as JSON; - is stdout.", metavar="FILE", group=OUTPUTS),
    ] = None,
    markdown: Annotated[
        Path | None,
        Option("For a pull request.", metavar="FILE", group=OUTPUTS),
    ] = None,
    github: Annotated[
        Path | None,
        Option("For github-action-benchmark.", metavar="FILE", group=OUTPUTS),
    ] = None,
    history: Annotated[
        Path | None,
        Option("Add it here, draw index.html of all.", metavar="DIR", group=OUTPUTS),
    ] = None,
) -> None:
    """Measure an artifact's latency, alone or against another one.

    Two sides run in turns, each in a process of its own, until their ratio is known well enough.
    Limits are judged by intervals. Exit code 3: one is surely exceeded. 1: the work failed, or a
    baseline cannot judge this run. "Cannot tell" is said and gives 0.

    Examples:
        gad bench model.onnx
        gad bench new.onnx --against old.onnx --max-slowdown 5%
        gad bench model.onnx --threads 1 --save-baseline model.baseline.json
    """
    from generalad.bench.gates import Limits
    from generalad.bench.measure import bench as run
    from generalad.cli.console import console, progress

    _check_writable(json, markdown, github, history)
    with progress(console()) as shown:
        report = run(
            artifact,
            against=against,
            against_rev=against_rev,
            baseline=baseline,
            save_baseline=save_baseline,
            source=source,
            batches=batch_sizes(batch),
            threads=threads,
            device=device,
            limits=Limits(
                slowdown=None if max_slowdown is None else share(max_slowdown),
                p95=max_p95,
                memory=max_memory,
            ),
            budget=duration(budget),
            soak_for=None if soak is None else duration(soak),
            progress=shown,
        )
    _write(report, json, markdown, github, history)
    _judge(report)


def _check_writable(
    json: str | None, markdown: Path | None, github: Path | None, history: Path | None
) -> None:
    """Refuse before a minute of measuring what could not be written after it."""
    from generalad.files import check_writable

    files = [file for file in (markdown, github) if file is not None]
    if json is not None and json != "-":
        files.append(Path(json))
    if history is not None:
        files.append(history / "index.html")
    for file in files:
        check_writable(file)


def _write(
    report: BenchReport,
    json: str | None,
    markdown: Path | None,
    github: Path | None,
    history: Path | None,
) -> None:
    """All outputs; the table is for people and goes to stderr."""
    from generalad.bench.outputs.terminal import render
    from generalad.cli.console import console, plain

    screen = console()
    screen.print(render(report))
    if json == "-" or (json is None and not sys.stdout.isatty()):
        sys.stdout.write(report.to_json())
        sys.stdout.flush()
    elif json is not None:
        _save(Path(json), report.to_json())
    if markdown is not None:
        from generalad.bench.outputs.github import markdown as to_markdown

        _save(markdown, to_markdown(report))
    if github is not None:
        from generalad.bench.outputs.github import github_benchmark

        _save(github, github_benchmark(report))
    if history is not None:
        from generalad.bench.outputs.history import write_history

        name = f"{report.when.replace(':', '')}-{Path(report.new.name).stem}.json"
        _save(history / name, report.to_json())
        write_history(history, history / "index.html")
        screen.print(f"history: [bold]{plain(history / 'index.html')}[/bold]")


def _save(path: Path, text: str) -> None:
    from generalad.files import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _judge(report: BenchReport) -> None:
    """Exit code 3 where a limit is surely exceeded, else 1 where a baseline refused."""
    failed = [gate for gate in report.gates if gate.passed is False]
    reasons = [f"{gate.name}: {gate.reason}" for gate in failed]
    if any(gate.name == "slowdown" for gate in failed):
        reasons.append(report.verdict_text.rstrip("."))
    if report.refusal:
        reasons.append(report.refusal)
    if reasons:
        raise (GateError if failed else GadError)("; ".join(reasons))


def duration(text: str) -> float:
    """Seconds of "60s", "1.5m" or "2h"; a bare number could be either, and is a UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)", text.strip())
    value = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not (value > 0 and math.isfinite(value)):
        remedy = "write it such as 60s or 5m"
        raise UsageError(f"expected a duration, found {text!r}", remedy=remedy)
    return value


def share(text: str) -> float:
    """The value of "5%", above 0 and below 1; a bare 5 could mean 500 %, and is a UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    value = float(match[1]) / 100 if match else 0.0
    if not 0 < value < 1:
        message = f"expected a share above 0% and below 100%, found {text!r}"
        raise UsageError(message, remedy="write it such as 5%")
    return value


def batch_sizes(text: str) -> tuple[int, ...]:
    """The batch sizes of "1,8,32"; raises UsageError for anything else."""
    words = text.split(",")
    if not all(re.fullmatch(r"\s*0*[1-9]\d{0,5}\s*", word) for word in words):
        raise UsageError(f"expected batch sizes, found {text!r}", remedy="write them such as 1,8")
    found = tuple(int(word) for word in words)
    if len(set(found)) < len(found):
        raise UsageError(f"a batch size is named twice in {text!r}", remedy="name it once")
    return found
