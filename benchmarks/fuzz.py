"""Mutated pictures, videos, artifacts, queues and settings through the commands that read them.

    python benchmarks/fuzz.py ARTIFACT IMAGES [--minutes 10] [--seed 0] [--keep DIR]
        [--only KIND ...]

Each case is a process of its own, forked from one that has loaded everything, with 60 seconds and
8 GB of address space; `fuzz_cases.py` makes them. Prints, by kind of file: cases, those that were
done or ended with an error in words, those that went wrong (a traceback, a hang, a signal, no
words), the largest memory and the longest time. Exit code 1 if any went wrong, or took more than
300 MB, 500 of pictures and videos. What went wrong is kept in DIR, with a `why.txt`.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fuzz_cases import Work, makers_of, run_gad
from fuzz_pictures import PICTURE, VIDEO

SECONDS, ADDRESS_SPACE, MEGABYTES = 60, 8 << 30, 300
PICTURES = 500
"""Megabytes that pictures and videos may take."""
DOCTOR = "environment"
"""The kind whose memory is not judged: `gad doctor` loads every library that there is."""


@dataclass
class Tally:
    """What became of the cases of a kind."""

    ends: Counter[str] = field(default_factory=Counter)
    megabytes: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def main() -> None:
    """Run until the time is over and print the totals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("images", type=Path, help="a folder of good images")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--only", nargs="+", help="kinds, such as picture and video")
    given = parser.parse_args()
    load_everything()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tallies = run(given, folder)
    print(f"{'kind':<22}{'cases':>7}{'done':>7}{'in words':>9}{'wrong':>7}{'MB':>6}{'s':>7}")
    for kind, tally in tallies.items():
        good = tally.ends["done"], tally.ends["in words"]
        count = sum(tally.ends.values())
        print(
            f"{kind:<22}{count:>7}{good[0]:>7}{good[1]:>9}{count - sum(good):>7}"
            f"{tally.megabytes:>6}{tally.seconds:>7.1f}"
        )
    total = sum((tally.ends for tally in tallies.values()), Counter[str]())
    too_much = any(tally.megabytes > _most_of(kind) for kind, tally in tallies.items())
    print(f"{sum(total.values())} cases, {dict(total)}")
    for kind, tally in tallies.items():
        for text in tally.wrong[:5]:
            print(f"{kind}: {text}")
    sys.exit(bool(total.keys() - {"done", "in words"}) or too_much)


def _most_of(kind: str) -> float:
    return math.inf if kind == DOCTOR else PICTURES if kind in (PICTURE, VIDEO) else MEGABYTES


def run(given: argparse.Namespace, folder: Path) -> dict[str, Tally]:
    """Draw cases until the time is over."""
    makers = makers_of(given.artifact, given.images, folder)
    if given.only:
        makers = {kind: makers[kind] for kind in given.only}
    tallies: dict[str, Tally] = {}
    ends, number = time.monotonic() + 60 * given.minutes, 0
    while time.monotonic() < ends:
        rng = random.Random(f"{given.seed} {number}")
        kind, maker = list(makers.items())[number % len(makers)]
        work, what = maker(rng)
        end, megabytes, seconds, text = run_case(work)
        named = work[0] if isinstance(work, list) else kind
        tally = tallies.setdefault(kind, Tally())
        tally.ends[end] += 1
        tally.megabytes, tally.seconds = (
            max(tally.megabytes, megabytes),
            max(tally.seconds, seconds),
        )
        too_much = megabytes > _most_of(kind)
        if end not in ("done", "in words") or too_much:
            tally.wrong.append(
                f"case {number}, {named}, {what}: {end}, {megabytes} MB: {text[-300:]}"
            )
            if given.keep is not None:
                kept = given.keep / f"{number}"
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                (kept / "why.txt").write_text(f"{named}, {what}: {end}, {megabytes} MB\n{text}")
        number += 1
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{number} cases ")
    return tallies


def load_everything() -> None:
    """What the commands import, so that a case begins at once."""
    for module in (
        "cv2", "numpy", "onnxruntime", "rich.console", "rich.table", "msgspec", "msgspec.inspect",
        *(f"generalad.cli.{name}" for name in ("info", "infer", "selftest", "calibrate", "doctor",
          "bench", "data", "console", "parser", "process", "live_table")),
        *(f"generalad.runtime.{name}" for name in ("recalibrate", "selftest", "inference",
          "pipeline.pipeline", "backends.ort", "line.line_file", "delivery.outbox", "delivery.sink",
          "cameras.watched_folder", "cameras.open", "sinks.json_csv", "backends.engine_record")),
        "generalad.bench.baseline", "generalad.bench.report",
    ):  # fmt: skip
        with contextlib.suppress(ImportError):
            __import__(module)


def run_case(work: Work) -> tuple[str, int, float, str]:
    """How a command ended, its megabytes and seconds, and its last words."""
    with tempfile.TemporaryFile() as said:
        began, child = time.monotonic(), os.fork()
        if child == 0:
            _be_the_command(work, said.fileno())
        hung = False
        while not (found := os.wait4(child, os.WNOHANG))[0]:
            if time.monotonic() - began > SECONDS:
                hung = True
                os.kill(child, signal.SIGKILL)
                found = os.wait4(child, 0)
                break
            time.sleep(0.002)
        seconds = time.monotonic() - began
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(found[1])
    return _end(code, text, hung=hung), found[2].ru_maxrss // 1024, seconds, text


def _end(code: int, text: str, *, hung: bool) -> str:
    if hung:
        return "hang"
    if "Traceback (most recent" in text or code == 99:
        return "traceback"
    if code < 0:
        return f"signal {-code}"
    if code == 0:
        return "done"
    # A line that can go on without the mutated file is a result with an error in it.
    in_words = any(line.startswith("gad: ") for line in text.splitlines()) or " failed" in text
    return "in words" if in_words else "no words"


def _be_the_command(work: Work, said: int) -> None:
    code = 99
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = (
            open(one, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
            for one in (1, 2)
        )
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            run_gad(work) if isinstance(work, list) else _do(work)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _do(work: Callable[[], object]) -> None:
    """As a command would: an error of ours is one line."""
    from generalad.cli.process import exit_code_of

    def command() -> int:
        work()
        return 0

    sys.exit(exit_code_of(command, debug=False))


if __name__ == "__main__":
    main()
