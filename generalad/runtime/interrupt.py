"""Ctrl-C as a request to finish, not as an exception in the middle of something."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def on_ctrl_c(finish: Callable[[], None]) -> Iterator[None]:
    """Within the block the first Ctrl-C calls `finish`, a second one raises KeyboardInterrupt.

    `finish` runs in the main thread between two of its instructions, so it must not take locks.
    Another thread gets no Ctrl-C, and a handler that the program has set stays as it is.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        finish()

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
