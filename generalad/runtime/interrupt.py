"""Ctrl-C and SIGTERM as requests to finish, not as exceptions in the middle of something."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def on_interrupt(finish: Callable[[int], None]) -> Iterator[None]:
    """Within the block the first Ctrl-C or SIGTERM calls `finish` with its number.

    A second one raises KeyboardInterrupt. `finish` runs in the main thread between two of its
    instructions, so it must not take locks. Another thread gets no signals, and a handler that the
    program has set stays as it is.
    """
    ours = {
        number: usual
        for number, usual in _USUAL.items()
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) is usual
    }

    def first(number: int, frame: FrameType | None) -> None:
        for other in ours:
            signal.signal(other, signal.default_int_handler)
        finish(number)

    for number in ours:
        signal.signal(number, first)
    try:
        yield
    finally:
        for number, usual in ours.items():
            signal.signal(number, usual)


_USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
