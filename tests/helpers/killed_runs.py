"""Runs of `generalad.reproduce` that are killed by `kill -9`, each in a process of its own.

The processes are forked from one that has loaded torch, so that each costs no start.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from generalad.reproduction.reproduce import reproduce


def kill_within_the_last_run(key: str, data: Path, out: Path, **options: Any) -> int | None:
    """Start a table, and kill its process after the first epoch of its last run.

    Returns:
        How the process ended: minus the signal's number, as `multiprocessing` has it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["generalad.training.train", __name__])
    process = context.Process(target=_die, args=(key, data, out), kwargs=options)
    process.start()
    process.join(timeout=120)
    return process.exitcode


def _die(key: str, data: Path, out: Path, **options: Any) -> None:
    last = False

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal last
        if stage == "runs":
            last = done == total - 1
        elif stage == "training" and last:
            os.kill(os.getpid(), signal.SIGKILL)

    reproduce(key, data, out, progress=progress, **options)
