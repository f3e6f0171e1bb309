"""How long work speaks to whoever started it: `Progress` counts, `Log` says a line."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as work goes on; a total of 0 is not known."""

Log = Callable[[str], None]
"""Called with a line for a person."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def no_log(line: str) -> None:
    """Tell nobody."""
