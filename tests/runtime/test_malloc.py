"""A process that keeps its memory asks the system for no more of it, image after image."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = """
import resource, sys, threading
import numpy as np
from generalad.runtime.malloc import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def use():
    images = [np.ones(int(sys.argv[2]), np.uint8) for _ in range(3)]

def count():
    for _ in range(2):
        use()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        use()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

count()
thread = threading.Thread(target=count)  # has a heap of its own
thread.start()
thread.join()
"""


def page_faults(how: str, size: int = 6_000_000, /, **env: str) -> list[int]:
    """In the main thread and in another one, while 20 times three images come and go."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = (sys.executable, "-c", IMAGES, how, str(size))
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env=own | env
    )
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks to glibc")
def test_memory_is_kept_unless_the_environment_says_otherwise() -> None:
    kept = page_faults("kept")
    assert max(kept) < 500
    assert min(page_faults("left")) > 5000
    given_back = {"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
    assert min(page_faults("kept", **given_back)) > 5000
    tunables = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"}
    assert min(page_faults("kept", **tunables)) > 5000


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc"
    or [*map(int, platform.libc_ver()[1].split(".")[:2])] < [2, 36],
    reason="speaks to glibc, whose older versions have a limit",
)
def test_memory_of_large_images_is_kept_too() -> None:
    in_main, _ = page_faults("kept", 36_000_000)  # 12 megapixels
    assert in_main < 500
