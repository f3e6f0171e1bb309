"""What commands share: a console on stderr, a progress display, and JSON on stdout."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

Report = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


def console() -> Console:
    """A console on stderr; stdout is for machines."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any, *, wanted: bool) -> None:
    """Write JSON to stdout if it was asked for, or if stdout leads to a file or another program."""
    if wanted or not sys.stdout.isatty():
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def progress(out: Console) -> Iterator[Report]:
    """Show stages as bars on a terminal, and as one line a finished stage elsewhere."""
    if not out.is_terminal:
        yield _lines(out)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
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
    with Progress(*columns, console=out) as bars:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def _lines(out: Console) -> Report:
    started: dict[str, float] = {}

    def report(stage: str, done: int, total: int) -> None:
        started.setdefault(stage, time.monotonic())
        if done >= total:
            seconds = time.monotonic() - started.pop(stage)
            out.print(f"{stage}: {total} in {seconds:.1f} s")

    return report
