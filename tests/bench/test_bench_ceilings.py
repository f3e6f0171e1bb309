"""Ceilings and the limit that follows from them."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.bench import roofline
from generalad.bench.graph_cost import Cost, Precision, count_model
from generalad.bench.roofline import Ceiling, Device, roofline_of
from generalad.errors import ArtifactError


def first_kernels(precision: Precision) -> list[roofline._Kernel]:
    families = (roofline._products(precision), roofline._convolutions(precision))
    return [kernel for family in families for kernel in itertools.islice(family, 2)]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_kernels_do_the_work_that_they_are_credited_with(precision: Precision) -> None:
    for kernel in first_kernels(precision):
        rows = len(kernel.images)
        assert count_model(kernel.model).flops == {precision: kernel.work / rows}
        session = ort.InferenceSession(kernel.model.SerializeToString())
        (found,) = session.run(None, {"x": kernel.images})
        assert found.astype(np.float32).std() > 0, kernel.name  # saturated values would be constant


def test_reading_counts_the_weights() -> None:
    kernel = roofline._read(300)
    assert kernel.work == kernel.model.graph.initializer[0].ByteSize() // 100 * 100


def test_the_fastest_run_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    durations = iter([0.5, 0.009, 0.002, 0.004, 0.005, 0.2])  # the first is not timed

    def run() -> None:
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert roofline._fastest(run) == pytest.approx(0.002)


PRODUCT = next(iter(roofline._products("fp32")))


def libraries(monkeypatch: pytest.MonkeyPatch, rates: dict[str, float]) -> None:
    """Libraries that take as long for each kernel as its work at a rate."""

    def starts(rate: float) -> roofline._Start:
        return lambda kernel, threads: lambda: seconds.append(kernel.work / rate)

    seconds: list[float] = []

    def fastest(run: roofline.Run) -> float:
        run()
        return seconds[-1]

    monkeypatch.setattr(roofline, "_fastest", fastest)
    monkeypatch.setattr(roofline, "_products", lambda precision: [PRODUCT])
    monkeypatch.setattr(roofline, "_convolutions", lambda precision: [])
    monkeypatch.setattr(roofline, "_read", lambda n: PRODUCT)
    monkeypatch.setattr(
        roofline, "_libraries", lambda device: [(n, starts(r)) for n, r in rates.items()]
    )
    roofline.arithmetic.cache_clear()
    roofline.bandwidth.cache_clear()


@pytest.fixture(autouse=True)
def forget() -> None:
    roofline.arithmetic.cache_clear()
    roofline.bandwidth.cache_clear()


@given(rates=st.lists(st.floats(1e9, 1e13), min_size=1, max_size=3))
def test_the_best_library_makes_the_ceiling(rates: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        libraries(patch, {str(i): rate for i, rate in enumerate(rates)})
        found = roofline.arithmetic("fp32", 1, "cpu")
        assert found is not None
        assert found.rate == pytest.approx(max(rates))
        assert roofline.bandwidth(10**6, 1, "cpu").rate == pytest.approx(max(rates))


def test_a_lower_precision_is_never_below_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries(monkeypatch, {"library": 1e11})
    assert roofline.arithmetic("fp32", 1, "cpu") == Ceiling(1e11, "fp32 product of 256 in library")
    libraries(monkeypatch, {"slow": 1e10})
    full = roofline.arithmetic("fp32", 1, "cpu")
    assert full is not None
    monkeypatch.setattr(roofline, "_libraries", lambda device: [])
    assert roofline.arithmetic("fp16", 1, "cpu") == full


def test_eight_bits_on_a_gpu_have_no_kernel() -> None:
    assert roofline.arithmetic("int8", 1, "cuda") is None


def test_every_library_that_is_here_runs_the_kernels() -> None:
    for _, start in roofline._libraries("cpu"):
        for precision in ("fp32", "int8"):
            start(next(iter(roofline._products(precision))), 1)()


def given_machine(
    monkeypatch: pytest.MonkeyPatch, cost: Cost, rates: dict[Precision, float], memory: float
) -> None:
    def arithmetic(precision: Precision, threads: int, device: Device) -> Ceiling | None:
        return Ceiling(rates[precision], precision) if precision in rates else None

    monkeypatch.setattr(roofline, "arithmetic", arithmetic)
    monkeypatch.setattr(roofline, "bandwidth", lambda *_: Ceiling(memory, "reading"))
    monkeypatch.setattr(roofline, "_cost", lambda *_: cost)


def test_arithmetic_or_memory_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    given_machine(monkeypatch, Cost({"fp32": 1e9}, 1e6), {"fp32": 1e11}, 1e10)
    found, words = roofline_of(Path("model.onnx"), 20.0, 1)
    assert found is not None
    assert found.bound == "arithmetic"
    assert found.share == pytest.approx(0.5)
    assert words == "ceilings: 100 GFLOP/s, fp32; 10 GB/s, reading"
    given_machine(monkeypatch, Cost({"fp32": 1e9}, 1e9), {"fp32": 1e11}, 1e10)
    found, _ = roofline_of(Path("model.onnx"), 200.0, 1)
    assert found is not None
    assert found.bound == "memory"
    assert found.share == pytest.approx(0.5)


@given(share=st.floats(0, 1), rates=st.tuples(st.floats(1e9, 1e12), st.floats(1e9, 1e12)))
def test_a_mix_of_precisions_has_the_ceiling_of_its_parts_in_turn(
    share: float, rates: tuple[float, float]
) -> None:
    cost = Cost({"fp32": share * 1e9, "int8": (1 - share) * 1e9}, 1.0)
    seconds = cost.flops["fp32"] / rates[0] + cost.flops["int8"] / rates[1]
    with pytest.MonkeyPatch.context() as patch:
        given_machine(patch, cost, {"fp32": rates[0], "int8": rates[1]}, 1e12)
        found, _ = roofline_of(Path("model.onnx"), 4e3 * seconds, 1)
    assert found is not None
    assert found.share == pytest.approx(0.25)
    assert min(rates) * 0.999 <= found.flops_ceiling <= max(rates) * 1.001


@pytest.mark.parametrize(("measured", "share"), [(10.0, 1.0), (9.8, 1.0), (8.0, None)])
def test_faster_than_possible(
    measured: float, share: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_machine(monkeypatch, Cost({"fp32": 1e9}, 1.0), {"fp32": 1e11}, 1e10)
    found, words = roofline_of(Path("model.onnx"), measured, 1)
    assert (found.share if found else None) == share
    assert share is not None or "busy while they were measured" in words


def test_what_cannot_be_measured_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    given_machine(monkeypatch, Cost({"int8": 1e9}, 1.0), {}, 1e10)
    assert roofline_of(Path("model.engine"), 1.0, 1, device="cuda") == (
        None,
        "limit: there is no kernel to measure int8 on cuda with",
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [("model.xml", "model.onnx, which is not beside it"), ("model.onnx", "not an ONNX file")],
)
def test_what_cannot_be_counted_is_a_reason(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\xff\xff")
    found, reason = roofline_of(tmp_path / name, 1.0, 1)
    assert found is None
    assert words in reason
    assert "\n" not in reason


def test_a_library_that_fails_without_a_word_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    given_machine(monkeypatch, Cost({"fp32": 1e9}, 1.0), {"fp32": 1e11}, 1e10)

    def fails(*_: object) -> Ceiling:
        raise RuntimeError

    monkeypatch.setattr(roofline, "bandwidth", fails)
    assert roofline_of(Path("a.onnx"), 1.0, 1) == (None, "limit: cannot be measured (RuntimeError)")


def test_an_engine_whose_onnx_file_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"another")

    class Record:
        onnx = "model.onnx"
        onnx_sha256 = "0" * 64

    monkeypatch.setattr(roofline, "read_record", lambda engine: Record)
    with pytest.raises(ArtifactError, match="was changed"):
        roofline._cost(tmp_path / "model.engine", 1, "fp16", "fp32", (8, 8))


def test_an_ir_is_held_to_the_ceiling_of_what_it_computes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("model.onnx", 1), ("model.bin", 400)):
        (tmp_path / name).write_bytes(np.zeros(size, np.uint8).tobytes())
    monkeypatch.setattr(roofline, "count", lambda path, batch: Cost({"fp32": 5.0}, 1.0))
    kinds: list[tuple[str, Precision]] = [("int8", "int8"), ("fp16", "bf16"), ("fp32", "bf16")]
    for precision, kind in kinds:
        found = roofline._cost(tmp_path / "model.xml", 4, precision, "bf16", (8, 8))
        assert found == Cost({kind: 5.0}, 100.0 + 192.0)
