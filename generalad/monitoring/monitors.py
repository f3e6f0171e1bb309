"""Tells all who watch a training run of each epoch; one that fails is left out, nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from generalad.config import Config
from generalad.errors import UsageError, word_hint
from generalad.monitoring.loggers import LOGGERS
from generalad.monitoring.run_log import RunLog
from generalad.progress import Log, no_log
from generalad.training.loop import EpochEnd


class Monitor(Protocol):
    """Watches a run. Any exception means that it can watch no longer."""

    def epoch(self, end: EpochEnd) -> None:
        """After each epoch; after a kill it may hear of one twice."""

    def close(self) -> None:
        """After the last epoch, or an interruption."""


class Monitors:
    """An `OnEpoch` for several monitors, each opened at the first epoch.

    Args:
        openers: by the name that a message gives the monitor.
        log: told in a line of one that failed; training goes on without it.
    """

    def __init__(self, openers: dict[str, Callable[[], Monitor]], log: Log) -> None:
        self._waiting, self._log = dict(openers), log
        self._open: dict[str, Monitor] = {}

    def __call__(self, end: EpochEnd) -> None:
        """Tell all of an epoch."""
        for name, opener in self._waiting.items():
            with self._alone(name):
                self._open[name] = opener()
        self._waiting = {}
        for name, monitor in list(self._open.items()):
            with self._alone(name):
                monitor.epoch(end)

    def close(self) -> None:
        """Close all that were opened."""
        for name, monitor in list(self._open.items()):
            with self._alone(name):
                monitor.close()
        self._open = {}

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """What fails in here costs this monitor only. Loggers raise whatever their network does."""
        try:
            yield
        except Exception as error:
            self._open.pop(name, None)
            lines = str(error).strip().splitlines()
            reason = lines[0] if lines else type(error).__name__
            self._log(f"warning: {name}: {reason}; training goes on without it")


@contextlib.contextmanager
def monitored(
    folder: Path, config: Config, *, log_to: Sequence[str] = (), log: Log | None = None
) -> Iterator[Monitors]:
    """Monitors of the run in `folder`: its own log and plot, and the loggers named in `log_to`.

    Raises:
        UsageError: no such logger.
    """
    for name in log_to:
        if name not in LOGGERS:
            raise UsageError(
                f"--log-to {name}: expected one of {', '.join(LOGGERS)}",
                remedy=word_hint(name, LOGGERS, "gad train"),
            )
    told = log or no_log
    openers: dict[str, Callable[[], Monitor]] = {"log": lambda: RunLog(folder)}
    for name in dict.fromkeys(log_to):
        openers[name] = lambda name=name: LOGGERS[name](folder, config, told)  # type: ignore[misc]
    monitors = Monitors(openers, told)
    try:
        yield monitors
    finally:
        monitors.close()
