"""The processor: its name, its instruction sets as the system lists them, cores and memory."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")


class Processor(NamedTuple):
    """`flags` are as Linux names them; empty where the system does not list them (not Linux)."""

    name: str
    flags: frozenset[str]


def read_processor(cpuinfo: Path = CPUINFO) -> Processor:
    """What the system says of the processor that this runs on."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    # The processor's name; a board's where ARM's list has no name for the processor.
    named = [
        re.search(rf"^{key}\s*:\s*(\S.*)$", text, re.M)
        for key in ("model name", "Model", "Hardware")
    ]
    name = next((" ".join(match[1].split()) for match in named if match), None)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.M)
    return Processor(
        name or platform.processor() or platform.machine(),
        frozenset(flags[1].split()) if flags else frozenset(),
    )


def usable_cores() -> int:
    """Cores that this process may use: its affinity where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of memory that the machine has; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
