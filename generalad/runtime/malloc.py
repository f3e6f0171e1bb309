"""Tells glibc to keep the memory of images, which come and go at one size.

Left to itself it gives the memory of an image back after every one of them in some processes and
not in others, by where things happen to lie: one process of the same program decoded at 1.2 ms, the
next at 2.0 ms, for as long as it lived. And it gives threads heaps of their own, of which every
reconnect of a camera would fill another.
"""

from __future__ import annotations

import os
import sys

STEADY = {
    "MALLOC_TRIM_THRESHOLD_": 1 << 28,  # bytes at the end of a heap that are kept
    "MALLOC_MMAP_THRESHOLD_": 1 << 26,  # bytes of a block that bypasses the heap: 22 megapixels
    "MALLOC_ARENA_MAX": 2,  # heaps for all threads
}
"""Variables of glibc's environment."""

_LARGEST_IN_OLDER = 1 << 25
"""Bytes of a block that may not bypass the heap, in versions of glibc with a limit."""

_PARAMETERS = {  # of mallopt(3)
    "MALLOC_TRIM_THRESHOLD_": -1,
    "MALLOC_MMAP_THRESHOLD_": -3,
    "MALLOC_ARENA_MAX": -8,
}


def keep_freed_memory() -> None:
    """Set `STEADY` in this process, but for what its environment sets; glibc only."""
    if sys.platform != "linux" or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return
    for name, value in STEADY.items():
        if name not in os.environ and not mallopt(_PARAMETERS[name], value):
            mallopt(_PARAMETERS[name], min(value, _LARGEST_IN_OLDER))
