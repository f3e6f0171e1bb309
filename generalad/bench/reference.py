"""Reference kernels: what a machine does in these milliseconds, whatever model runs on it.

    run_references(threads) -> {"matmul": ms, "copy": ms, "convolution": ms}

They stand for what a network's time is made of: arithmetic on data in the cache, memory traffic,
and vector code that no BLAS library has tuned. NumPy and OpenCV only, so that a backend's new
version does not change the yardstick. Times leave out the waiting for a core.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from generalad.errors import UsageError
from generalad.processor import usable_cores

_PRODUCTS, _SIDE = 384, 64
"""Products of so many matrices of that side. BLAS libraries give so small a product to one thread,
however many they are set to, so the threads are ours to choose."""

_COPIED = 32 << 20  # bytes, more than a core's own caches hold

_IMAGE, _TAPS, _PASSES = 512, 7, 4

_TIMED = 3  # runs, of which the median counts: one that the system stopped does not

Kernel = Callable[[int], None]
"""Does a share of the work; there is one for each thread."""


def run_references(threads: int | None = None) -> dict[str, float]:
    """Run every kernel four times; the first fills the caches and does not count.

    All threads together do the same work whatever their number; None is one for each core this
    process may use, fewer than one is a UsageError. The buffers stay allocated (about 70 MB): call
    it in the process that leads a bench, not in the one whose memory is measured.

    Returns:
        Milliseconds by name of the kernel, the thread's that took longest. With one thread on a
        core of 2024 each takes about 1.5, and the whole call less than 20.
    """
    threads = usable_cores() if threads is None else threads
    if threads < 1:
        raise UsageError(f"threads must be at least 1, found {threads}")
    return {name: _milliseconds(kernel, threads) for name, kernel in _kernels(threads).items()}


def _milliseconds(kernel: Kernel, threads: int) -> float:
    if threads == 1:
        return _timed(kernel, 0)
    return max(_pool(threads).map(functools.partial(_timed, kernel), range(threads)))


@functools.lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="reference")


def _timed(kernel: Kernel, share: int) -> float:
    """Milliseconds that this thread takes for a share, without those it waits for a core."""
    kernel(share)
    found = []
    for _ in range(_TIMED):
        wait, began = _waited(), time.perf_counter()
        kernel(share)
        seconds = time.perf_counter() - began
        found.append(max(seconds - (_waited() - wait), 1e-9))
    return statistics.median(found) * 1e3


def _waited() -> float:
    """Seconds that the calling thread has stood ready without a core; 0 where nobody counts."""
    try:
        with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


@functools.lru_cache(maxsize=1)
def _kernels(threads: int) -> dict[str, Kernel]:
    """The kernels with their buffers, each cut into one share a thread."""
    random = np.random.default_rng(0)
    factors = random.random((16, _SIDE, _SIDE), dtype=np.float32)
    products = [np.empty_like(factors) for _ in range(threads)]
    calls = -(-_PRODUCTS // (threads * len(factors)))

    def matmul(share: int) -> None:
        for _ in range(calls):
            np.matmul(factors, factors[0], out=products[share])

    source = np.ones(_COPIED, np.uint8)  # written once, or all pages would be the same zeros
    target = np.ones(_COPIED, np.uint8)
    edges = np.linspace(0, _COPIED, threads + 1).astype(int)

    def copy(share: int) -> None:
        part = slice(edges[share], edges[share + 1])
        np.copyto(target[part], source[part])

    parts = np.array_split(random.random((_IMAGE, _IMAGE), dtype=np.float32), threads)
    filtered = [np.empty_like(part) for part in parts]
    taps = np.full((_TAPS, _TAPS), 1 / _TAPS**2, np.float32)

    def convolution(share: int) -> None:
        for _ in range(_PASSES):
            cv2.filter2D(parts[share], -1, taps, dst=filtered[share])

    return {"matmul": matmul, "copy": copy, "convolution": convolution}
