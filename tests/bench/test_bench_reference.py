"""Reference kernels: they do the work they say, and their times leave out waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from generalad.bench import reference
from generalad.bench.reference import run_references
from generalad.errors import UsageError


@pytest.mark.parametrize("threads", [1, 2, None])
def test_a_time_for_each_kernel(threads: int | None) -> None:
    found = run_references(threads)
    assert list(found) == ["matmul", "copy", "convolution"]
    assert all(value > 0 for value in found.values())


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_is_refused(threads: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        run_references(threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_threads_share_one_amount_of_work(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    copied: list[int] = []
    products: list[int] = []
    lock = threading.Lock()
    filtered, copy, matmul = cv2.filter2D, np.copyto, np.matmul

    def count(into: list[int], size: Callable[..., int], function: Callable[..., object]) -> object:
        def counted(*arguments: object, **named: object) -> object:
            with lock:
                into.append(size(*arguments))
            return function(*arguments, **named)

        return counted

    monkeypatch.setattr(cv2, "filter2D", count(rows, lambda part, *_: len(part), filtered))
    monkeypatch.setattr(np, "copyto", count(copied, lambda target, _: target.nbytes, copy))
    monkeypatch.setattr(np, "matmul", count(products, lambda a, _: len(a), matmul))
    kernels = reference._kernels.__wrapped__(threads)
    for kernel in kernels.values():
        for share in range(threads):
            kernel(share)
    assert sum(rows) == 512 * 4
    assert sum(copied) == 32 << 20
    assert sum(products) == 384


def test_one_run_that_the_system_stops_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 0.001, 0.001, 0.051, 0.051, 0.053])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(reference, "_waited", lambda: 0.0)
    assert reference._timed(lambda share: None, 0) == pytest.approx(2.0)


def test_waiting_for_a_core_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.010] * 3)
    waited = iter([1.0, 1.007] * 3)
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(reference, "_waited", lambda: next(waited))
    assert reference._timed(lambda share: None, 0) == pytest.approx(3.0)


def test_the_slowest_thread_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_timed", lambda kernel, share: float(share))
    assert reference._milliseconds(lambda share: None, 3) == 2.0


def test_where_nobody_counts_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    assert reference._waited() == 0.0
