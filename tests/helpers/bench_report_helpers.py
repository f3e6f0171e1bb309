"""Reports as a bench could write them, made by hand."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from generalad.bench.report import (
    BenchReport,
    Comparison,
    Gate,
    Machine,
    Roofline,
    Side,
    Throughput,
    Times,
    Verdict,
)
from generalad.statistics import Estimate

MEDIANS = {
    "decode": 1.92,
    "preprocess": 0.312,
    "infer": 10.62,
    "postprocess": 0.0191,
    "total": 13.04,
}


def estimate(value: float, share: float = 0.01) -> Estimate:
    return Estimate(value, value * (1 - share), value * (1 + 1.5 * share))


def times(median: float, samples: int = 400) -> Times:
    return Times(
        samples,
        estimate(median),
        p90=estimate(1.15 * median, 0.02),
        p95=estimate(1.24 * median, 0.03),
        p99=estimate(1.6 * median, 0.2) if samples >= 1000 else None,
    )


def side(name: str = "model.onnx", factor: float = 1.0, **changes: Any) -> Side:
    made = Side(
        name=name,
        sha256="ab" * 32,
        precision="fp32",
        backend="ONNX Runtime, CPU",
        stages={stage: times(factor * median) for stage, median in MEDIANS.items()},
        load=estimate(118.0, 0.05),
        cold=estimate(24.1, 0.2),
        peak_rss=212.4,
        throughput=(
            Throughput(1, 1, estimate(76.7 / factor)),
            Throughput(8, 2, estimate(131.0 / factor)),
        ),
        missing=("energy: no sensor was found (NVML, Jetson)", "GPU memory: there is no GPU"),
        waiting=0.052,
        roofline=Roofline(1.2e9, 21e6, 175e9, 11.3e9, "arithmetic", 0.64),
    )
    return replace(made, **changes)


def machine(**changes: Any) -> Machine:
    made = Machine(
        cpu="Example CPU @ 2.10GHz",
        cores=2,
        architecture="x86_64",
        system="Linux 6.1",
        python="3.11.7",
        threads=2,
        reference={"matrix product": estimate(4.1), "memory copy": estimate(2.2)},
        noise=0.031,
    )
    return replace(made, **changes)


def measurement(**changes: Any) -> BenchReport:
    """One side alone."""
    made = BenchReport(
        when="2026-03-02T10:20:30+00:00",
        version="0.1.0",
        machine=machine(),
        settings={
            "batch": 1,
            "threads": 2,
            "budget": 60.0,
            "limit": 0.05,
            "source": None,
            "seed": 7,
        },
        new=side(),
        seconds=41.3,
    )
    return replace(made, **changes)


def comparison(factor: float = 1.102, **changes: Any) -> BenchReport:
    """Two sides whose ratio of medians is `factor`, with a gate of 5 % on it."""
    found: Verdict = "slower" if factor > 1.05 else "faster" if factor < 0.95 else "same"
    old = side("old.onnx")
    ratios = tuple(
        Comparison(stage, Estimate(factor, factor - 0.012, factor + 0.013), 412, found)
        for stage in old.stages
    )
    much = f"{100 * abs(factor - 1):.1f} %"
    gates = (
        Gate("slowdown", factor <= 1.05, f"{much}, the limit is 5 %"),
        Gate("p95", True, "14.2 ms, within the limit of 40 ms"),
        Gate("memory", None, "cannot tell, this system does not say (limit 300 MB)"),
    )
    made = measurement(
        new=side("new.onnx", factor),
        old=old,
        comparisons=ratios,
        verdict=found,
        verdict_text=f"new.onnx is {found} than old.onnx by {much}; infer takes most of it",
        gates=gates,
        notes=("this machine is noisy: neighbouring blocks of the same side differ by 12 %",),
    )
    return replace(made, **changes)
