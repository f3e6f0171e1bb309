"""What commands share: a console on stderr, a progress display, and JSON on stdout."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from generalad.printable import json_printable, one_line, printable
from generalad.progress import Log, Progress, in_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

SILENCE = 10.0
"""Seconds that a log waits for news of a stage that goes on."""

_APART, _PACES = 3.0, 8
"""Seconds over which a pace is taken at least, and how many of the last ones are looked at."""


def console() -> Console:
    """A console on stderr; stdout is for machines."""
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        """Writes out control characters of texts; those of styles and of the cursor stay."""

        def _render_buffer(self, buffer: Iterable[Segment]) -> str:
            return super()._render_buffer(
                part if part.control else Segment(printable(part.text), part.style)
                for part in buffer
            )

    return SafeConsole(stderr=True, highlight=False, soft_wrap=True)


def plain(value: object) -> str:
    """A text or path as it is, for lines with styles: what looks like one in it is none."""
    from rich.markup import escape

    return escape(str(value))


def print_json(value: Any, *, wanted: bool) -> None:
    """Write JSON to stdout if it was asked for, or if stdout leads to a file or another program."""
    if wanted or not sys.stdout.isatty():
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(json_printable(text) + "\n")


def confirm(question: str) -> bool:
    """Ask on stderr; only y and yes agree.

    Raises:
        KeyboardInterrupt: stdin has ended.
    """
    sys.stderr.write(f"{question} [y/N]: ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise KeyboardInterrupt
    return answer.strip().lower() in ("y", "yes")


@contextlib.contextmanager
def progress(out: Console) -> Iterator[Progress]:
    """Show stages as bars on a terminal, and elsewhere, in a log, as `ProgressLines`."""
    if not out.is_terminal:
        yield ProgressLines()
        return
    from rich import progress as rich_progress
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with rich_progress.Progress(*columns, console=out) as bars:

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield show


class ProgressLines:
    """A plain line for each stage that ends, and one now and then while a stage goes on.

    A stage begins where the one before has ended, so that loading and the like is counted too.
    """

    def __init__(
        self,
        log: Log | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`log` takes a line, by default to stderr; `clock` counts seconds."""
        self._log = log or _to_stderr
        self._clock = clock
        self._ended = self._said = clock()
        self._marks: dict[str, deque[tuple[float, int]]] = {}
        """Of each stage that goes on: when, from time to time, how much was done."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take the news of a stage, see `Progress`."""
        now = self._clock()
        marks = self._marks.setdefault(stage, deque([(now, done)], maxlen=_PACES))
        if total and done >= total:
            del self._marks[stage]
            count = f"{total} in " if total > 1 else ""
            line = f"{stage}: {count}{now - self._ended:.1f} s"
            self._ended = now
        else:
            left = _left(marks, done, total, now)
            if now - self._said < SILENCE:
                return
            line = f"{stage}: {_so_far(done, total)}{left}"
        self._said = now
        self._log(line)


def _left(marks: deque[tuple[float, int]], done: int, total: int, now: float) -> str:
    """How long it will take at the usual pace of late; nothing while that cannot be said.

    The usual one is the median: a first epoch, or one beside other work, may be ten times slower.
    """
    pairs = itertools.pairwise([*marks, (now, done)])
    paces = sorted(
        (t - s) / (after - before) for (s, before), (t, after) in pairs if after > before
    )
    if now - marks[-1][0] >= _APART and done > marks[-1][1]:
        marks.append((now, done))
    if not total or not paces:
        return ""
    usual = (paces[(len(paces) - 1) // 2] + paces[len(paces) // 2]) / 2
    return f", {in_words((total - done) * usual)} left"


def _to_stderr(line: str) -> None:
    sys.stderr.write(one_line(line) + "\n")


def _so_far(done: int, total: int) -> str:
    return f"{done} of {total}" if total else f"{done} so far"
