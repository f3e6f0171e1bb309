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


def in_words(seconds: float) -> str:
    """A duration as people say it: 40 s, 25 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
