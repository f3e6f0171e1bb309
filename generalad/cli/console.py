"""What commands share for talking to people on stderr: a console and a progress display."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Report = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


def console() -> Console:
    """A console on stderr; stdout is for machines."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress(out: Console) -> Iterator[Report]:
    """Show stages as bars on a terminal, and as one line a finished stage elsewhere."""
    if not out.is_terminal:
        yield _lines(out)
        return
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
