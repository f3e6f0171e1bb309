"""Work on many files at once, without holding a task for each of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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
