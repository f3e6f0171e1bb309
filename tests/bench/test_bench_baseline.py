"""Baselines that travel: made, stored, judged, refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from generalad.bench.baseline import (
    DISAGREE,
    OTHER_CPU,
    RESIDUAL,
    SAME_CPU,
    Baseline,
    compare_with_baseline,
    load_baseline,
    make_baseline,
    reference_times,
    relative_times,
    save_baseline,
)
from generalad.bench.gates import slowdown_gate
from generalad.bench.interleaved import Opening, Recording
from generalad.bench.machine import describe_machine
from generalad.bench.report import BenchReport, Machine, Side, Times
from generalad.bench.worker_process import Block, Facts, Subject
from generalad.errors import ArtifactError, GadError
from generalad.processor import usable_cores
from generalad.statistics import Estimate

KERNELS = {"matmul": 2.0, "copy": 1.5, "convolution": 1.5}
STAGES = ("infer", "total")
TURNS = 5


def run(
    *,
    model: float = 10.0,
    speed: float = 1.0,
    kernels: dict[str, float] | None = None,
    spread: float = 0.05,
    openings: int = 12,
    seed: int = 0,
    **changes: Any,
) -> tuple[BenchReport, dict[str, Estimate]]:
    """A bench on a machine `speed` times as fast, whose every turn strays by `spread`."""
    random, turns = np.random.default_rng(seed), openings * TURNS
    state = np.exp(random.normal(0, 0.3, turns)) / speed  # which both feel alike
    references = [
        {name: value * factor for name, value in (kernels or KERNELS).items()} for factor in state
    ]
    stages = {
        name: list(state * model * np.exp(random.normal(0, spread, turns))) for name in STAGES
    }
    machine = Machine(
        "cpu", 2, "x86_64 avx2", "Linux", "3.11", threads=1, reference=reference_times(references)
    )
    side = Side(
        name="model.onnx",
        sha256="0",
        precision="fp32",
        backend="onnxruntime 1.32.0, CPU",
        stages={name: Times(turns * 6, Estimate(10.0)) for name in STAGES},
        load=Estimate(1.0),
        cold=Estimate(1.0),
        peak_rss=1.0,
        waiting=0.0,
    )
    report = BenchReport(
        when="2025-06-01T10:00:00+00:00",
        version="1.0",
        machine=machine,
        settings={"batch": 1, "source": "drawn", "image_size": [256, 256]},
        new=side,
        seconds=1.0,
    )
    return changed(report, **changes), relative_times(recorded(stages), references)


def recorded(stages: dict[str, list[float]]) -> Recording:
    """Turns of the same length, some in each opening."""
    turns = [dict(zip(stages, times, strict=True)) for times in zip(*stages.values(), strict=True)]
    blocks = [Block({stage: [time] for stage, time in turn.items()}) for turn in turns]
    openings = [Opening(1.0, 1.0, blocks[i : i + TURNS]) for i in range(0, len(blocks), TURNS)]
    facts = Facts("onnxruntime 1.32.0, CPU", "fp32", (256, 256), None, 1.0, 1.0)
    return Recording(Subject("model.onnx", Path("model.onnx")), facts, openings)


def changed(report: BenchReport, **changes: Any) -> BenchReport:
    """With fields of the report, its machine, its side or its settings replaced."""
    for name, value in changes.items():
        if name in Machine.__struct_fields__:
            machine = replace(report.machine, **{name: value})
            report = replace(report, machine=machine)
        elif name in Side.__struct_fields__:
            report = replace(report, new=replace(report.new, **{name: value}))
        else:
            report = replace(report, settings={**report.settings, name: value})
    return report


@given(
    speed=st.floats(0.1, 10),
    slowdown=st.floats(0.5, 2),
    seed=st.integers(0, 50),
)
def test_the_speed_of_the_machine_cancels(speed: float, slowdown: float, seed: int) -> None:
    baseline = make_baseline(*run(seed=seed))
    found = compare_with_baseline(
        *run(model=10 * slowdown, speed=speed, seed=seed + 1000), baseline, 0.05
    )
    assert found.speed == pytest.approx(speed, rel=0.5)  # the median turn of each strays
    total = found.comparisons[-1]
    assert total.stage == "total"
    assert total.verdict == found.verdict
    gate = slowdown_gate(total.ratio, 0.05)
    assert (gate.passed is None) == found.text.startswith("Cannot tell from this baseline")
    slower = found.text.startswith("model.onnx is slower than the baseline of 2025-06-01: ")
    assert (gate.passed is False) == slower
    assert total.ratio.low is not None
    assert total.ratio.high is not None
    # Five deviations of what the turns leave open; travelling itself is not random here.
    assert total.ratio.value == pytest.approx(slowdown, rel=0.08)
    assert total.ratio.low < total.ratio.value < total.ratio.high
    if slowdown > 1.25:
        assert found.verdict == "slower"
    if slowdown < 0.8:
        assert found.verdict == "faster"
    if 0.96 < slowdown < 1.04:
        assert found.verdict not in {"slower", "faster"}


def test_the_interval_is_never_narrower_than_travelling() -> None:
    baseline = make_baseline(*run(spread=1e-9))
    found = compare_with_baseline(*run(spread=1e-9, seed=1), baseline, 0.05)
    ratio = found.comparisons[-1].ratio
    assert ratio.low is not None
    assert ratio.high is not None
    assert math.log(ratio.high / ratio.low) == pytest.approx(2 * 1.96 * RESIDUAL, rel=1e-3)
    assert found.travel == pytest.approx(math.exp(1.96 * RESIDUAL) - 1)
    assert "accounts for" in found.text


@given(apart=st.floats(0, 2 * DISAGREE), same=st.booleans())
def test_kernels_that_disagree_widen_the_interval_until_they_refuse(
    apart: float, same: bool
) -> None:
    baseline = make_baseline(*run(spread=1e-9))
    kernels = {**KERNELS, "copy": KERNELS["copy"] * math.exp(apart)}
    cpu = "cpu" if same else "another"
    report, relative = run(spread=1e-9, kernels=kernels, cpu=cpu)
    if apart > DISAGREE * 1.001:
        with pytest.raises(GadError, match="no single factor describes this machine"):
            compare_with_baseline(report, relative, baseline, 0.05)
    elif apart < DISAGREE * 0.999:
        share = SAME_CPU if same else OTHER_CPU
        travel = compare_with_baseline(report, relative, baseline, 0.05).travel
        assert travel == pytest.approx(math.expm1(1.96 * math.hypot(RESIDUAL, share * apart)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "x86_64 avx2 avx512f"}, "architecture is x86_64 avx2 avx512f, the base"),
        ({"gpu": "NVIDIA L4"}, "gpu is NVIDIA L4, the baseline's none"),
        ({"threads": 2}, "threads is 2, the baseline's 1"),
        ({"backend": "onnxruntime 2.0.0, CPU"}, "backend is onnxruntime 2, CPU"),
        ({"backend": "openvino 1.32.0, CPU"}, "backend is openvino 1, CPU"),
        ({"precision": "int8"}, "precision is int8, the baseline's fp32"),
        ({"image_size": [256, 320]}, "input size is 256 x 320, the baseline's 256 x 256"),
        ({"batch": 8}, "batch is 8"),
        ({"source": "line.mp4"}, "source is line.mp4"),
        ({"reference": {"matmul": Estimate(1.0)}}, "other reference kernels"),
    ],
)
def test_other_conditions_are_refused(changes: dict[str, Any], words: str) -> None:
    baseline = make_baseline(*run())
    with pytest.raises(GadError, match="cannot judge this run") as caught:
        compare_with_baseline(*run(**changes), baseline, 0.05)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_difference_is_named_and_small_versions_are_none() -> None:
    baseline = make_baseline(*run())
    compare_with_baseline(*run(backend="onnxruntime 1.40.2, CPU", cpu="another"), baseline, 0.05)
    with pytest.raises(GadError, match=r"precision is .*; batch is"):
        compare_with_baseline(*run(batch=2, precision="fp16"), baseline, 0.05)


@pytest.mark.parametrize("unrest", [{"waiting": 0.2}, {"noise": 0.2}])
def test_several_threads_need_a_quiet_machine(unrest: dict[str, Any]) -> None:
    baseline = make_baseline(*run(threads=2, waiting=0.01, noise=0.01))
    with pytest.raises(GadError, match="20 %"):
        make_baseline(*run(threads=2, **unrest))
    with pytest.raises(GadError, match="not quiet"):
        compare_with_baseline(*run(threads=2, **unrest), baseline, 0.05)
    make_baseline(*run(threads=1, **unrest))


def test_too_short_runs() -> None:
    with pytest.raises(GadError, match="too short"):
        make_baseline(*run(openings=3))
    found = compare_with_baseline(*run(openings=3, spread=1e-9), make_baseline(*run()), 0.05)
    assert found.verdict == "cannot tell"
    with pytest.raises(ValueError, match="2 turns, 1 of the kernels"):
        relative_times(recorded({"infer": [1.0, 2.0]}), [KERNELS])


def test_relative_times_are_turn_by_turn() -> None:
    unit = sum(KERNELS.values())
    references = [{name: value * f for name, value in KERNELS.items()} for f in (1, 2, 4)]
    found = relative_times(recorded({"infer": [unit * 3, unit * 6, unit * 12]}), references)
    assert found["infer"].value == pytest.approx(3.0)
    assert reference_times(references)["matmul"].value == 4.0


def stored(tmp_path: Path) -> tuple[Path, Baseline]:
    baseline = make_baseline(*run(gpu="NVIDIA L4"))
    save_baseline(tmp_path / "baseline.json", baseline)
    return tmp_path / "baseline.json", baseline


def test_there_and_back(tmp_path: Path) -> None:
    path, baseline = stored(tmp_path)
    assert load_baseline(path) == baseline
    assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 1}', "\x00"])
def test_no_baseline(content: str, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(content)
    with pytest.raises(ArtifactError):
        load_baseline(path)
    with pytest.raises(ArtifactError):
        load_baseline(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "expected a baseline of schema 1, found 2"),
        ({"extra": 1}, "damaged"),
        ({"conditions": {}}, "damaged"),
        ({"relative": {"total": {"value": -1.0, "low": 1.0, "high": 1.0}}}, "positive"),
        ({"relative": {"total": {"value": "1"}}}, "total.value: expected a number"),
        ({"relative": []}, "damaged"),
        ({"relative": {"infer": {"value": 1.0, "low": 1.0, "high": 1.0}}}, "no time of the total"),
        ({"reference": {"copy": 1.0}}, "damaged"),
    ],
)
def test_damaged_ones(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path, _ = stored(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match=words):
        load_baseline(path)


CPUINFO = """processor : 0
model name\t: Some  Processor 9 @ 3.0GHz
flags\t\t: fpu avx2 avx512f amx_int8 avx512_vnni

processor : 1
"""
ARM = "processor : 0\nFeatures : fp asimd asimddp\nModel : A Board Rev 1.1\n"


@pytest.mark.parametrize(
    ("text", "cpu", "sets"),
    [
        (CPUINFO, "Some Processor 9 @ 3.0GHz", ["avx2", "avx512f", "avx512_vnni", "amx_int8"]),
        (ARM, "A Board Rev 1.1", ["asimd", "asimddp"]),
    ],
)
def test_the_machine(text: str, cpu: str, sets: list[str], tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    found = describe_machine(3, "a card", cpuinfo=tmp_path / "cpuinfo")
    assert found.cpu == cpu
    assert found.architecture.split()[1:] == sets
    assert (found.threads, found.gpu) == (3, "a card")


def test_a_machine_without_a_list(tmp_path: Path) -> None:
    found = describe_machine(cpuinfo=tmp_path / "missing")
    assert found.architecture
    assert " " not in found.architecture
    assert found.threads == usable_cores()
