"""`WorkerProcess`: a side's process, as the bench sees it: commands, answers, its end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from generalad.bench.worker import FORKS
from generalad.errors import GadError, MissingExtraError, UsageError
from generalad.records import convert
from generalad.runtime import malloc
from generalad.runtime.backends import ort, ort_providers
from generalad.runtime.backends.open import KINDS
from generalad.runtime.backends.session import Closing
from generalad.runtime.sources import VIDEO_SUFFIXES

PROGRAM = Path(__file__).with_name("worker.py")
OWN_ROOT = Path(__file__).resolve().parents[2]

MALLOC = {name: str(value) for name, value in malloc.STEADY.items()}
"""Environment of a worker, so that older checkouts too keep their memory as `gad infer` does."""

PATIENCE = 120.0
"""Seconds without an answer after which a worker hangs; opening a large engine takes its time."""


class Subject(NamedTuple):
    """What a worker runs: an artifact under a checkout of generalad."""

    name: str  # for people
    artifact: Path
    root: Path = OWN_ROOT  # the folder that holds the package
    revision: str | None = None  # where two of them are compared

    def __str__(self) -> str:
        return f"{self.name} at {self.revision}" if self.revision else self.name


@dataclass(frozen=True)
class RunOptions:
    """How the artifact is run; threads and device as `open_session` takes them."""

    images: Sequence[str]  # files, or one video
    batch: int = 1
    threads: int | None = None
    device: str | None = None
    timed: bool = True  # whether a run on a GPU is told apart into upload, network and download


@dataclass(frozen=True)
class Facts:
    """What a worker says once its artifact is open; load and cold in milliseconds."""

    backend: str
    precision: str
    image_size: tuple[int, int]
    fixed_batch: int | None
    load: float
    cold: float
    timed: bool = False  # runs are told apart, which needs a GPU
    package: str = ""  # the folder that was imported
    pid: int = 0  # of the process that has it open
    computed: str = "fp32"  # the precision of what is not quantised

    @property
    def on_gpu(self) -> bool:
        """Whether the network runs on one."""
        return "CPU" not in self.backend


@dataclass(frozen=True)
class Block:
    """Runs that followed each other: milliseconds an image by stage, one value a run."""

    times: dict[str, list[float]]  # by the clock
    waits: dict[str, list[float]] | None = None  # of them ready without a core, where that is told
    rss: float | None = None  # this and the next: megabytes of the process, now and at most
    peak_rss: float | None = None

    def own(self, stage: str) -> list[float]:
        """Times without the waiting, which was other programs' doing; at least a nanosecond."""
        if self.waits is None:
            return self.times[stage]
        both = zip(self.times[stage], self.waits[stage], strict=True)
        return [max(time - wait, 1e-6) for time, wait in both]

    def median(self, stage: str, *, waiting: bool = False) -> float:
        """Of a stage, without the waiting or with it."""
        return statistics.median(self.times[stage] if waiting else self.own(stage))


def may_use_gpu(subject: Subject, options: RunOptions) -> bool:
    """Whether a worker would try to run it on one."""
    kind = subject.artifact.suffix.lower()
    if options.device == "cpu" or KINDS.get(kind) == ("cpu",):
        return False
    if kind == ".onnx" and options.device is None:  # open_session takes the best that is there
        return ort_providers.CUDA in ort.library().get_available_providers()
    return True


class WorkerProcess(Closing):
    """A process that opens an artifact and waits between commands; a context manager."""

    facts: Facts  # of what is open

    def __init__(
        self,
        subject: Subject,
        options: RunOptions | None = None,
        *,
        patience: float = PATIENCE,
    ) -> None:
        """Start the process, which then imports libraries; with options the artifact is opened."""
        self.subject, self.batch, self._patience = subject, 1, patience
        self._start()
        if options is not None:
            self.open(options)

    def _start(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - until close
        paths = [str(self.subject.root), *filter(None, [os.environ.get("PYTHONPATH")])]
        # Ctrl-C is for the bench, which then ends its workers.
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(self.subject.artifact)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**MALLOC, **os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )

    def open(self, options: RunOptions) -> None:
        """Open the artifact with memory of its own; a first image has run afterwards.

        Raises:
            UsageError: the checkout is too old.
            GadError: the artifact cannot be opened, or the process died or hangs.
        """
        subject, self.batch = self.subject, options.batch
        asked = {**dataclasses.asdict(options), "videos": sorted(VIDEO_SUFFIXES)}
        try:
            found = self._ask(do="open", artifact=str(subject.artifact), **asked)
            self.facts = convert(found, Facts)
            if Path(self.facts.package) != (subject.root / "generalad").resolve():
                raise GadError(
                    f"{subject}: expected its own generalad, found {self.facts.package}",
                    remedy="remove other installations of generalad from this environment",
                )
        except BaseException:
            self.close()
            raise

    def close_artifact(self) -> None:
        """Give up what is open, with all its memory."""
        self._ask(do="close")
        if not FORKS:
            self.close()
            self._start()

    def run(self, runs: int) -> Block:
        """Run so many batches."""
        return Block(**self._ask(do="run", runs=runs))

    def throughput(self, sessions: int, seconds: float) -> float:
        """Images a second of so many sessions side by side."""
        found = self._ask(do="throughput", sessions=sessions, seconds=seconds)
        return float(found["images_per_second"])

    def close(self) -> None:
        """End the process, whatever it does."""
        with contextlib.suppress(OSError), self._process:
            self._kill()
        self._errors.close()

    def _kill(self) -> None:
        """With the fork that may be at work."""
        if FORKS:
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()

    def _ask(self, **order: Any) -> dict[str, Any]:
        hangs, process = threading.Event(), self._process
        assert process.stdin is not None and process.stdout is not None

        def give_up() -> None:
            hangs.set()
            self._kill()

        timer = threading.Timer(self._patience, give_up)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # told below, with the reason
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if hangs.is_set():
            raise GadError(
                f"{self.subject}: its process has not answered for {self._patience:g} s",
                remedy="check that the artifact runs at all with gad selftest",
            )
        if not line:
            raise GadError(f"{self.subject}: its process died ({self._last_words()})")
        answer: dict[str, Any] = json.loads(line)
        if "error" not in answer:
            return answer
        if answer["lacks"] and self.subject.root != OWN_ROOT:
            raise UsageError(
                f"{self.subject}: this revision is too old to be measured ({answer['error']})",
                remedy="compare with a later revision",
            )
        kind = UsageError if answer["exit_code"] == MissingExtraError.exit_code else GadError
        raise kind(answer["error"], remedy=answer["remedy"])

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return f"exit code {code}: {lines[-1][:200]}" if lines else f"exit code {code}, no message"
