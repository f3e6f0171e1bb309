"""`gad bench`: latency that is compared in pairs, with its own uncertainty.

    worker (a process for each side) -> interleaved (random order) -> comparison -> gates -> report

A ratio of two things measured side by side means something on a noisy machine; a number measured
alone does not. Never imports torch.

The package can be called: `generalad.bench(...)` is `bench.bench`.
"""

from __future__ import annotations

from generalad.bench.gates import Limits
from generalad.bench.measure import bench
from generalad.bench.report import BenchReport, read_report
from generalad.callable_module import make_callable

__all__ = ["BenchReport", "Limits", "bench", "read_report"]

make_callable(__name__, "generalad.bench:bench")
