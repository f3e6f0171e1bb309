"""Work on many files at once, without holding a task for each in memory, and beside other work."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    ahead: int | Callable[[], int] | None = None,
) -> Iterator[Result]:
    """Like `map`, in threads and in order.

    Args:
        function: releases the interpreter lock where its work lies (reading, hashing, decoding).
        items: its arguments, taken when they are needed.
        workers: number of threads; by default one a processor, at most 16.
        ahead: tasks that are begun or done and not handed out; by default four a worker. It may be
            asked for anew after each result.
    """
    from concurrent.futures import ThreadPoolExecutor  # what runs in one thread needs it not

    workers = workers or min(16, os.cpu_count() or 1)
    most = ahead if callable(ahead) else lambda: ahead or 4 * workers
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                while len(waiting) >= most():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for task in waiting:
                task.cancel()


def in_background(work: Callable[[], Result], *, name: str) -> Callable[[], Result]:
    """Begin work in a thread of this name.

    Returns:
        What waits for its result and returns it, or raises what the work raised.
    """
    done: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()

    def wait() -> Result:
        thread.join()
        if failed:
            raise failed[0]
        return done[0]

    return wait
