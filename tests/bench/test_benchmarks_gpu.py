"""`benchmarks/gpu.py` without a GPU: its own arithmetic, order, and rows for what is not there."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cuda_double import COPY
from numpy.typing import NDArray
from tensorrt_double import NETWORK, World
from tensorrt_helpers import OPTIONS, random_images
from training_helpers import TINY, body, tiny_config

from generalad.errors import GadError, GateError, WeightsError
from generalad.export.export import Exported
from generalad.export.parity import Comparison, Parity
from generalad.export.to_tensorrt import build_engine
from generalad.export.verification_images import CALIBRATION, DEFECTS, ImageSet
from generalad.model.backbone import wrap
from generalad.model.detector import Detector
from generalad.model.session import TorchSession
from generalad.model.storage import Trained
from generalad.runtime.backends.fake import FakeSession, fake_spec
from generalad.runtime.backends.ort_providers import CUDA
from generalad.runtime.backends.session import Outputs
from generalad.runtime.backends.trt import TrtSession

pytest_plugins = ["tensorrt_fixtures"]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FACTS = {"GPU": "G", "compute capability": "9.0", "driver": "580", "torch": "2", "onnxruntime": "1"}
STAGES = [
    {"way": "device", "batch": 8, "upload": 1, "infer": 2, "download": 0.5, "timed": 4, "plain": 3},
    {"way": "native int8", "why": "out of memory"},
]
SPEED = {"epoch_seconds": 0.25, "fill_seconds": 1.5, "images": 40, "batch": 16, "dtype": "bfloat16"}


@dataclasses.dataclass
class Machine:
    """A clock that only the fakes move, in milliseconds, and what ran in which order."""

    time: float = 0.0
    order: list[str] = dataclasses.field(default_factory=list)


class Event:
    """A CUDA event on the fake clock."""

    machine = Machine()

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.at = float("nan")

    def record(self, stream: Any = None) -> None:
        self.at, self.stream = self.machine.time, stream

    def elapsed_time(self, end: Event) -> float:
        assert self.stream == end.stream
        return end.at - self.at


class Timed(FakeSession):
    """Takes `host` and then the next of `times` milliseconds; of another batch it has too few."""

    def __init__(
        self, machine: Machine, name: str, times: list[float], events: Any = None, host: float = 0
    ) -> None:
        super().__init__()
        self.machine, self.name, self.host = machine, name, host
        self.times = iter(times)
        self.work: Callable[[], Any] = self._work if events is None else events.around(self._work)

    def _work(self) -> None:
        step = next(self.times, None)
        if step is None:
            raise MemoryError("out of memory")
        self.machine.time += step

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        self.machine.order.append(self.name)
        self.machine.time += self.host
        self.work()
        return super().run(images)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Iterator[Any]:
    """The script, with CUDA replaced by the fake clock and products of 2 ms."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = importlib.import_module("gpu")
    monkeypatch.setattr(Event, "machine", machine)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda handle: handle)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module in (script, ways_module()):
        monkeypatch.setattr(module, "DEVICE", torch.device("cpu"))

    def product(matrix: torch.Tensor) -> float:
        machine.order.append("product")
        return 2.0

    for name, value in (
        ("now", lambda: machine.time / 1e3),
        ("product", product),
        ("MATRIX", 8),
        ("WARM_UP", 1),
        ("versions", lambda: {**FACTS, "tensorrt": "none"}),
    ):
        monkeypatch.setattr(script, name, value)
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    yield script
    convolutions.fp32_precision = before


def ways_module() -> Any:
    return importlib.import_module("gpu_ways")


@pytest.fixture
def rows(gpu: Any, machine: Machine) -> list[Any]:
    """One row by events, one by the clock that fails at the second batch, one that is not there."""
    ways = ways_module()
    events = ways.Events("stream")
    times = [50.0, 1, 2, 3, 4, 100]
    device = Timed(machine, "device", [*times, *times], events, host=6)
    few = Timed(machine, "few", [9.0, 8, 8, 8, 8, 8])
    done = artifact()
    return [
        ways.Row("device", device, ways.parity(done), events, done),
        ways.Row("few", few, "the reference"),
        ways.Row("native int8", None, "gate refused int8: not faster"),
    ]


def artifact(**changes: Any) -> Exported:
    part = Comparison(DEFECTS, 40, 0.02, 0.01, 0.1, 0.01, 1.0, 3, 0, (0.95, 0.94), (0.9, 0.9))
    sets = (dataclasses.replace(part, name=CALIBRATION, auroc=(float("nan"),) * 2, flips=0), part)
    parity = Parity("fp16", 0.5, "fake", sets)
    return Exported(Path("model.onnx"), fake_spec(), parity, "fp16, LayerNorm in fp32", **changes)


def test_without_cuda_there_is_one_line_and_exit_code_1() -> None:
    done = subprocess.run(
        (sys.executable, "-W", "error", str(BENCHMARKS / "gpu.py")),
        capture_output=True,
        text=True,
        cwd=BENCHMARKS.parent,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("no CUDA: ") and done.stdout.count("\n") == 1


def test_all_ways_run_in_turns(gpu: Any, machine: Machine, rows: list[Any]) -> None:
    products = gpu.timed(rows, (64, 64), [1, 8], 5)
    assert products == {1: [2.0] * 5, 8: [2.0] * 5}
    # One turn more than the rounds warms up; the row that failed there is not asked again.
    first, second = ["product", "device", "few"], ["product", "device"]
    assert machine.order == first * 7 + second * 5
    assert rows[1].failed == {8: "MemoryError: out of memory"}
    assert [sample.ms for sample in rows[0].samples[1]] == [1, 2, 3, 4, 100]


def test_the_figures(gpu: Any, rows: list[Any]) -> None:
    device, few, refused = (
        gpu.figures(row, products, 64.0)
        for products in [gpu.timed(rows, (64, 64), [1, 8], 5)]
        for row in rows
    )
    ceiling = 2 * 8**3 / 2.0  # FLOP a millisecond
    assert device["batches"][1] == {
        "batch": 8,
        "ms": 3.0,
        "p95_ms": pytest.approx(80.8),
        "clock": "events",
        "images_per_s": pytest.approx(8e3 / 9),  # the host's 6 ms count here
        "share": pytest.approx(64 * 8 / 3 / ceiling),
        "ceiling_tflops": ceiling / 1e9,
    }
    assert device["candidate"] == "fp16, LayerNorm in fp32"
    assert device["parity"]["flips"] == 3
    assert few["batches"][0]["ms"] == pytest.approx(8)
    assert few["batches"][0]["images_per_s"] == pytest.approx(125)
    assert few["batches"][0]["clock"] == "wall"
    assert few["batches"][1] == {"batch": 8, "why": "MemoryError: out of memory"}
    assert (refused["runs"], refused["batches"]) == (False, [])


def test_the_table_and_the_json(
    gpu: Any,
    rows: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measured(name: str, options: Namespace) -> dict[str, Any]:
        if name == "vit_small":
            raise WeightsError("the weights are of another model")
        products = gpu.timed(rows, (64, 64), options.batches, options.rounds)
        figures = [gpu.figures(row, products, 64.0) for row in rows]
        return {"gflop": 6.4, "training": SPEED, "rows": figures, "stages": STAGES}

    monkeypatch.setattr(gpu, "measured", measured)
    file = tmp_path / "figures.json"
    arguments = ["embedded", "vit_small", "--batches", "8,1", "--rounds", "5", "--json", str(file)]
    assert gpu.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "embedded: GPU G, compute capability 9.0, driver 580, torch 2, onnxruntime 1,"
        " tensorrt none, 6.4 GFLOP an image"
    )
    assert lines[1].startswith("training: 0.250 s an epoch from cached features in bfloat16 (40 i")
    tables = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    table, stages = tables[:-4], tables[-4:]
    note = "fp16, LayerNorm in fp32; 2.0e-02; +1.00; 3/80"
    assert table[2:] == [
        ["device", "1", "3.00", "80.80", "events", "111", "0.04", note],
        ["device", "8", "3.00", "80.80", "events", "889", "0.33", note],
        ["few", "1", "8.00", "8.00", "wall", "125", "0.02", "the reference"],
        ["few", "8", "", "", "", "", "", "MemoryError: out of memory"],
        ["native int8", "", "", "", "", "", "", "gate refused int8: not faster"],
    ]
    assert all(len(row) == len(table[0]) for row in table)
    assert stages[0][1:] == ["batch", "upload", "infer", "download", "timed", "plain"]
    assert stages[2] == ["device", "8", "1.000", "2.000", "0.500", "4.000", "3.000"]
    assert (stages[3][0], stages[3][-1]) == ("native int8", "out of memory")
    assert all(len(row) == len(stages[0]) for row in stages)
    assert lines[-1] == "vit_small: the weights are of another model"
    first, second = json.loads(file.read_text(encoding="utf-8"))
    assert second["why"] == "the weights are of another model"
    assert [row["way"] for row in first["rows"]] == ["device", "few", "native int8"]
    assert first["rows"][0]["batches"][0]["ms"] == 3 and first["training"] == SPEED


@pytest.mark.parametrize("arguments", [["vit"], ["--batches", "0,1"], ["--weights", "w"]])
def test_wrong_usage(gpu: Any, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu.main(arguments)
    assert "error: " in capsys.readouterr().err


def test_libraries_that_are_not_there(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ways, options = ways_module(), Namespace(data=None, batches=[1])
    asked: list[str] = []
    monkeypatch.setattr(ways, "export_detector", lambda *_, **__: asked.append("export"))
    providers = SimpleNamespace(get_available_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(ways.ort, "library", lambda: providers)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    rows = ways.onnx_rows(SimpleNamespace(trained=None), "fp16", options, Path())
    rows.append(ways.engine_row(None, "int8", options, Path()))
    assert {row.name: row.note for row in rows} == {
        "onnx fp16, ORT CUDA": "the installed onnxruntime offers no CUDA",
        "onnx fp16, ORT TensorRT": "the installed onnxruntime offers no CUDA",
        "TensorRT native int8": "running TensorRT engines needs packages that are not installed",
    }
    assert not asked, "work in vain"


def test_refusals_and_providers(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ways, options = ways_module(), Namespace(data=None, batches=[1])
    providers = SimpleNamespace(get_available_providers=lambda: [CUDA])
    monkeypatch.setattr(ways.ort, "library", lambda: providers)
    done = artifact()
    other = dataclasses.replace(done.parity, sets=done.parity.sets[:1] * 2)

    def compare(session: Any, precision: str, spec: Any) -> Parity:
        assert (precision, spec) == ("fp32", done.spec)
        return other

    judge = SimpleNamespace(trained=None, compare=compare)
    monkeypatch.setattr(ways, "export_detector", lambda *_, **__: done)
    monkeypatch.setattr(ways, "open_session", lambda path, *, device: FakeSession())
    cuda, tensorrt = ways.onnx_rows(judge, "fp16", options, Path())
    assert (cuda.done, cuda.note) == (done, "fp16, LayerNorm in fp32; 2.0e-02; +1.00; 3/80")
    assert tensorrt.done.parity == other, "its own, because the gate ran on CUDA"

    def fallen(path: Path, *, device: str) -> FakeSession:
        if device == "tensorrt":
            raise GadError("onnxruntime could not load its tensorrt provider", remedy="install")
        return FakeSession()

    monkeypatch.setattr(ways, "open_session", fallen)
    cuda, tensorrt = ways.onnx_rows(judge, "fp16", options, Path())
    assert cuda.session is not None and tensorrt.session is None
    assert tensorrt.note == "onnxruntime could not load its tensorrt provider"

    def refuse(*arguments: Any, **options: Any) -> Exported:
        raise GateError("no fp16 artifact for onnx passed the gate:\n  fp16: a\n  b: c")

    monkeypatch.setattr(ways, "export_detector", refuse)
    for row in ways.onnx_rows(judge, "fp16", options, Path()):
        assert (row.session, row.note) == (None, "gate refused fp16: a; b: c")


def test_native_engines_are_timed_on_their_stream(gpu: Any, world: World, model: Path) -> None:
    with TrtSession(build_engine(model, options=OPTIONS)) as session:
        events = ways_module().launches(session)
        samples = [gpu.measure(session, events, random_images(1)) for _ in range(3)]
        assert [sample.clock for sample in samples] == ["wall", "events", "events"]
        assert isinstance(events.start.stream, int) and events.start.stream != 0
        world.no_capture = True
        assert gpu.measure(session, events, random_images(2)).clock == "wall"
        assert gpu.measure(session, events, random_images(2)).clock == "wall", (
            "runs without a graph"
        )


def test_stages_of_artifacts(gpu: Any, world: World, model: Path) -> None:
    ways = ways_module()
    path = build_engine(model, options=OPTIONS)
    rows = [
        ways.Row("torch", FakeSession(), "no artifact"),
        ways.Row("refused", None, "gate refused int8"),
        ways.Row("engine", FakeSession(), "", opened=functools.partial(TrtSession, path)),
        ways.Row("on the CPU", FakeSession(), "", opened=lambda **_: FakeSession()),
    ]
    rows[2].failed[4] = "out of memory"
    one, two, failed = ways.stages(rows, (64, 64), [1, 2, 4], 3)
    assert [(found["way"], found["batch"]) for found in (one, two)] == [
        ("engine", 1),
        ("engine", 2),
    ]
    assert one["infer"] == pytest.approx(NETWORK), "by the device's clock"
    assert COPY[1] < one["upload"] and 2 * COPY[2] < one["download"]
    assert one["timed"] > 0 and one["plain"] > 0
    assert failed["why"].startswith("AttributeError"), "it has no stages"
    assert world.cuda.held == 0


def test_torch_computes_what_the_detector_does(gpu: Any, tmp_path: Path) -> None:
    config = tiny_config(backbone=TINY)
    model = body(TINY, num_classes=0, img_size=config.image_size, dynamic_img_size=False)
    detector = Detector(config, wrap(model, config.layers, config.image_size)).eval()
    spec = dataclasses.replace(fake_spec(), map_size=detector.map_size)
    trained = Trained(detector, spec, tmp_path)
    images = random_images(6)
    expected = TorchSession(trained).run(images)
    ways = ways_module()
    plain, half = (ways.Graphics(trained, half=half) for half in (False, True))
    for found, wanted in zip(plain.run(images), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert plain.events.recorded
    bad = np.ones(6, dtype=np.bool_)
    sets = [ImageSet(CALIBRATION, images, ~bad, (None,) * 6), ImageSet(DEFECTS, images, bad, ())]
    sets[1] = dataclasses.replace(sets[1], masks=(None,) * 6)
    judge = ways.Judge(trained, sets, [expected, expected])
    assert judge.compare(plain, "fp32", spec).score_largest == 0
    assert 0 < judge.compare(half, "fp16", None).score_largest < 0.1
