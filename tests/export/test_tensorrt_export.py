"""`gad export --format tensorrt` end to end on the doubles: from a detector, from an ONNX file."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import onnx
import pytest
from tensorrt_double import World
from tensorrt_helpers import Install
from training_helpers import interpolate_maps, nearest

from generalad.cli import main
from generalad.errors import GadError, GateError, StorageError
from generalad.export import export as module
from generalad.export import gate as gate_module
from generalad.export import parity, to_tensorrt
from generalad.export.engine import EngineOptions
from generalad.export.export import Exported, export_detector
from generalad.export.to_onnx import to_onnx
from generalad.model.storage import Trained
from generalad.runtime import open_session
from generalad.runtime.backends.engine_record import read_record
from generalad.runtime.selftest import selftest
from generalad.statistics import Estimate

pytest_plugins = ["training_fixtures", "tensorrt_fixtures"]


@pytest.fixture(scope="module")
def graph(trained: Trained) -> onnx.ModelProto:
    return to_onnx(trained.detector)


@pytest.fixture(autouse=True)
def quick(graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "to_onnx", lambda detector: copy.deepcopy(graph))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_is_proven_and_its_onnx_lies_beside_it(
    precision: str, world: World, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = dataclasses.replace(parity.LIMITS["int8"], flip_margin=1e9, auroc=1.0, aupro=1.0)
    monkeypatch.setitem(parity.LIMITS, "int8", free)
    monkeypatch.setattr(gate_module.Gate, "_speed_up", lambda *_: Estimate(1.5, 1.4, 1.6))
    path = tmp_path / "model.engine"
    done = export_detector(trained, path, format="tensorrt", precision=precision, batch=(1, 4))
    assert done.spec.precision == precision and "tensorrt" in done.parity.backend
    assert {file.name for file in tmp_path.iterdir()} == {
        "model.engine", "model.engine.json", "model.onnx",
    }  # fmt: skip
    record = read_record(path)
    assert record.spec == done.spec and record.batch == (1, 1, 4)
    with open_session(path) as session:
        scores = session.run(trained.calibration_images()).scores
    assert not (scores >= done.spec.thresholds.image).any()
    assert selftest(path).equal and to_tensorrt.is_stale(path) is None


def test_int8_is_quantised_without_zero_points_in_half_precision(
    world: World, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = dataclasses.replace(parity.LIMITS["int8"], flip_margin=1e9, auroc=1.0, aupro=1.0)
    monkeypatch.setitem(parity.LIMITS, "int8", free)
    monkeypatch.setattr(gate_module.Gate, "_speed_up", lambda *_: Estimate(1.5, 1.4, 1.6))
    export_detector(trained, tmp_path / "m.engine", format="tensorrt", precision="int8")
    model = onnx.load(tmp_path / "m.onnx")
    weights = {item.name: item for item in model.graph.initializer}
    quantisers = [
        n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")
    ]
    assert len(quantisers) > 10
    for node in quantisers:
        assert weights[node.input[1]].data_type == onnx.TensorProto.FLOAT16
        if len(node.input) > 2:
            assert not onnx.numpy_helper.to_array(weights[node.input[2]]).any()


def test_an_engine_that_computes_something_else_is_refused(
    world: World, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    graph: onnx.ModelProto,
) -> None:  # fmt: skip
    wrong = copy.deepcopy(graph)
    interpolate_maps(wrong, trained, nearest)
    monkeypatch.setattr(module, "to_onnx", lambda detector: wrong)
    with pytest.raises(GateError, match="differ"):
        export_detector(trained, tmp_path / "m.engine", format="tensorrt")
    assert not list(tmp_path.iterdir())


def test_a_build_that_fails_says_why(install: Install, trained: Trained, tmp_path: Path) -> None:
    install(10, "10.3.0")
    with pytest.raises(GadError, match="JetPack 6") as caught:
        export_detector(trained, tmp_path / "m.engine", format="tensorrt")
    assert caught.value.exit_code == 1  # no gate said no
    assert not list(tmp_path.iterdir())


def test_no_space_keeps_the_engine_before(
    world: World, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.engine"
    export_detector(trained, path, format="tensorrt")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    real, calls = to_tensorrt.write_engine, []

    def full(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) > 1:  # the draft fits, the artifact does not
            raise OSError(28, "No space left on device")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(to_tensorrt, "write_engine", full)
    with pytest.raises(StorageError, match="disk is full"):
        export_detector(trained, path, format="tensorrt")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    with open_session(path) as session:
        session.run(trained.calibration_images())


def test_the_command_builds_from_an_onnx_file(
    world: World, exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("GAD_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "m.engine"
    words = [
        "export",
        str(exported.path),
        "--format",
        "tensorrt",
        "-o",
        str(path),
        "--batch",
        "1..4",
    ]
    with pytest.raises(SystemExit) as end:
        main([*words, "--hardware-compatible", "ampere_plus"])
    assert end.value.code == 0, capsys.readouterr().err
    assert "golden samples of model.onnx reproduced" in capsys.readouterr().err
    record = read_record(path)
    assert record.batch == (1, 1, 4) and record.hardware_compatibility == "ampere_plus"
    assert (tmp_path / "cache" / "tensorrt" / "timing.cache").is_file()
    with pytest.raises(SystemExit) as end:
        main(["export", str(exported.path), "--fp16"])
    assert end.value.code == 2 and "exported already" in capsys.readouterr().err


def test_infer_builds_a_stale_engine_again_if_it_may(
    install: Install, trained: Trained, tmp_path: Path, parts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    install(10)
    path = tmp_path / "m.engine"
    export_detector(trained, path, format="tensorrt", engine=EngineOptions(batch=(1, 1, 4)))
    install(11)
    images = str(parts / "test" / "good")
    with pytest.raises(SystemExit) as end:
        main(["infer", str(path), images])
    assert end.value.code == 1 and "--rebuild" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["infer", str(path), images, "--rebuild"])
    shown = capsys.readouterr()
    assert end.value.code == 0, shown.err
    assert len([json.loads(line) for line in shown.out.splitlines()]) == 4
    assert "built again" in shown.err and "tensorrt 11" in shown.err
