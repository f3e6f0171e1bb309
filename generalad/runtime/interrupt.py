"""Ctrl-C and SIGTERM as requests to finish, not as exceptions in the middle of something."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

END_AFTER: float | None = None
"""Seconds from a second signal to the end of the process; None where it is another program's."""


@contextlib.contextmanager
def on_interrupt(finish: Callable[[int], None]) -> Iterator[None]:
    """Within the block the first Ctrl-C or SIGTERM calls `finish` with its number.

    A second one raises KeyboardInterrupt, and where the process is ours (`END_AFTER`) ends it some
    seconds later, whatever a thread hangs in. `finish` runs in the main thread between two of its
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
            signal.signal(other, second)
        finish(number)

    def second(number: int, frame: FrameType | None) -> None:
        if END_AFTER is not None:
            end = threading.Timer(END_AFTER, os._exit, [128 + number])
            end.daemon = True
            end.start()
        raise KeyboardInterrupt

    for number in ours:
        signal.signal(number, first)
    try:
        yield
    finally:
        for number, usual in ours.items():
            signal.signal(number, usual)


_USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
