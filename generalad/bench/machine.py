"""Where a bench runs: processor, cores, instruction sets, system, GPU."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from generalad.bench.report import Machine

INSTRUCTION_SETS = (
    # x86-64, then ARM: those that networks run several times as fast with.
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
"""As Linux names them; two machines that differ in one of these run different code."""


def usable_cores() -> int:
    """Cores that this process may use: its affinity where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine(
    threads: int | None = None, gpu: str | None = None, *, cpuinfo: Path = Path("/proc/cpuinfo")
) -> Machine:
    """What decides how fast a network runs here; `reference` and `noise` are left to the bench.

    `architecture` is the processor's and its instruction sets, such as "x86_64 avx2 avx512f"; where
    the system does not list these (not Linux), it is the processor's alone. Threads are those of
    the network, one for each core it may use by default.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    # The processor's name; a board's where ARM's list has no name for the processor.
    named = [
        re.search(rf"^{key}\s*:\s*(\S.*)$", text, re.M)
        for key in ("model name", "Model", "Hardware")
    ]
    cpu = next((" ".join(match[1].split()) for match in named if match), None)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.M)
    present = set(flags[1].split()) if flags else set()
    sets = [name for name in INSTRUCTION_SETS if name in present]
    return Machine(
        cpu=cpu or platform.processor() or platform.machine(),
        cores=usable_cores(),
        architecture=" ".join([platform.machine(), *sets]),
        system=platform.platform(terse=True),
        python=platform.python_version(),
        gpu=gpu,
        threads=threads or usable_cores(),
    )
