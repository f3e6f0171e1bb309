"""Ctrl-C and SIGTERM as requests to finish, not as exceptions in the middle of something."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Container, Iterator
from types import FrameType

END_AFTER: float | None = None
"""Seconds from a second signal to the end of the process; None where it is another program's."""


@contextlib.contextmanager
def on_interrupt(finish: Callable[[int], None]) -> Iterator[None]:
    """Within the block the first Ctrl-C or SIGTERM calls `finish` with its number.

    A second one raises KeyboardInterrupt, and where the process is ours (`END_AFTER`) ends it some
    seconds later, whatever a thread hangs in, the main one too. `finish` runs in the main thread
    between two of its instructions, so it must not take locks. Another thread gets no signals, and
    a handler that the program has set stays as it is.
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
        raise KeyboardInterrupt

    with _ended_by_the_second(ours):
        for number in ours:
            signal.signal(number, first)
        try:
            yield
        finally:
            for number, usual in ours.items():
                signal.signal(number, usual)


@contextlib.contextmanager
def _ended_by_the_second(numbers: Container[int]) -> Iterator[None]:
    """Within the block a second signal ends the process after `END_AFTER`.

    A handler of Python waits until the main thread is back from a library. So a thread counts what
    arrives, which the interpreter writes into a pipe at once.
    """
    if END_AFTER is None or not numbers:
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_count, args=(reading, numbers, END_AFTER), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


def _count(reading: int, numbers: Container[int], seconds: float) -> None:
    arrived = 0
    while found := os.read(reading, 1):
        arrived += found[0] in numbers
        if arrived == 2:
            time.sleep(seconds)
            os._exit(128 + found[0])
    os.close(reading)


_USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
