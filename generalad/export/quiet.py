"""Keeps libraries' advice to developers, and their progress bars, away from users."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(*loggers: str, stdout: bool = False) -> Iterator[None]:
    """Show only errors of the named loggers ("" is the root), no warnings, no stdout if asked.

    Levels and warnings are as before afterwards.
    """
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            if stdout:
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)
