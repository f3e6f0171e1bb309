"""Every format and precision end to end: what is written, what is refused, what is recorded."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from training_helpers import aligned_corners, interpolate_maps, nearest, write_parts

from generalad.cli.export import batch_sizes
from generalad.errors import (
    ArtifactError,
    DataError,
    GadError,
    GateError,
    MissingExtraError,
    StorageError,
    UsageError,
)
from generalad.export import candidates as candidates_module
from generalad.export import export as module
from generalad.export import gate as gate_module
from generalad.export import onnx_file, parity
from generalad.export.candidates import FORMATS, Candidate
from generalad.export.export import Exported, export_detector
from generalad.export.precision import scope_of
from generalad.export.to_onnx import to_onnx
from generalad.model.storage import Trained
from generalad.runtime import Session, open_session
from generalad.runtime.backends import ov
from generalad.runtime.backends.onnx_hash import check_unchanged
from generalad.runtime.selftest import selftest
from generalad.statistics import Estimate

pytest_plugins = ["training_fixtures"]


@pytest.fixture(scope="module")
def graph(trained: Trained) -> onnx.ModelProto:
    return to_onnx(trained.detector)


@pytest.fixture
def quick(graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Translate once for all tests, on a processor that computes nothing in half precision."""
    monkeypatch.setattr(module, "to_onnx", lambda detector: copy.deepcopy(graph))
    monkeypatch.setattr(ov, "half_units", lambda core: {})


@pytest.fixture
def loose_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """For int8 of an untrained network on three images, whose ranks mean nothing."""
    free = dataclasses.replace(parity.LIMITS["int8"], flip_margin=1e9, auroc=1.0, aupro=1.0)
    monkeypatch.setitem(parity.LIMITS, "int8", free)


@pytest.fixture
def loose(loose_limits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, and int8 is faster."""
    monkeypatch.setattr(gate_module.Gate, "_speed_up", lambda *_: Estimate(1.5, 1.4, 1.6))


@pytest.mark.usefixtures("quick", "loose")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_what_is_written_runs_and_tests_itself(
    format: str, precision: str, trained: Trained, tmp_path: Path
) -> None:
    name = "model" + ("" if precision == "fp32" else f"-{precision}") + FORMATS[format]
    done = export_detector(trained, tmp_path / name, format=format, precision=precision)
    assert done.spec.precision == precision
    assert done.spec.parity["precision"] == precision
    assert done.speed_up == (1.5 if precision == "int8" else None)
    images = trained.calibration_images()
    with open_session(done.path) as session:
        assert session.spec == done.spec
        assert ("openvino" if format == "openvino" else "onnxruntime") in session.backend
        found = session.run(images)
    assert found.scores.shape == (3,) and found.scores.dtype == np.float32
    # Set through the artifact itself: the promise holds for its own scores.
    assert not (found.scores >= done.spec.thresholds.image).any()
    assert selftest(done.path).equal
    files = {path.name for path in tmp_path.iterdir()}
    assert files == ({name, name.replace(".xml", ".bin")} if format == "openvino" else {name})


@pytest.mark.usefixtures("quick")
def test_default_names_tell_format_and_precision(run_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    assert export_detector(folder).path == folder / "model.onnx"
    assert export_detector(folder, precision="fp16").path == folder / "model-fp16.onnx"
    assert export_detector(folder, format="openvino").path == folder / "model.xml"


def scaled(model: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    """Values of the discriminator's LayerNorm times `factor`, taken back by what reads them."""
    wrong = copy.deepcopy(model)
    weights = {item.name: item for item in wrong.graph.initializer}

    def multiply(name: str, by: float) -> None:
        values = numpy_helper.to_array(weights[name]) * np.float32(by)
        weights[name].CopyFrom(numpy_helper.from_array(values, name))

    norm = next(
        node
        for node in wrong.graph.node
        if node.op_type == "LayerNormalization" and scope_of(node).startswith("head.discriminator")
    )
    for name in norm.input[1:]:
        multiply(name, factor)
    # LayerNorm's output goes to the MLP and, past it, to the head.
    for node in wrong.graph.node:
        if node.op_type == "MatMul" and norm.output[0] in node.input:
            multiply(node.input[1], 1 / factor)
        if node.op_type == "MatMul" and scope_of(node) == "head.discriminator.head":
            multiply(node.input[1], 1 / factor)
    last = [
        node
        for node in wrong.graph.node
        if node.op_type in ("MatMul", "Add") and ".mlp.3" in scope_of(node)
        and scope_of(node).startswith("head.discriminator")
    ]  # fmt: skip
    for node in last:
        for name in node.input:
            if name in weights:
                multiply(name, factor)
    return wrong


def test_an_overflow_climbs_the_ladder_and_is_recorded(
    graph: onnx.ModelProto, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "to_onnx", lambda detector: scaled(graph, 1e5))
    done = export_detector(trained, tmp_path / "model.onnx", precision="fp16")
    assert done.name == "fp16, LayerNorm, Softmax and the last blocks in fp32"
    assert [one.name for one in done.refused] == [
        "fp16", "fp16, LayerNorm in fp32", "fp16, LayerNorm in fp32, attention in bf16",
        "fp16, LayerNorm and Softmax in fp32",
    ]  # fmt: skip
    assert all("overflow" in one.reasons[0] for one in done.refused)
    assert done.spec.parity["candidate"] == done.name
    assert len(done.spec.parity["refused"]) == 4


def test_bfloat16_that_cannot_run_here_is_passed_over(
    quick: None, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        candidates_module, "too_large", lambda s, g, r: ["x (1e+05)"] * (r.precision == "fp16")
    )
    done = export_detector(trained, tmp_path / "model.onnx", precision="fp16")
    assert done.name == done.spec.precision == "fp32"
    assert len(done.refused) == 6 and "no implementation" in done.refused[5].reasons[0]


def _nearest(model: onnx.ModelProto, trained: Trained) -> None:
    interpolate_maps(model, trained, nearest)


def _corners(model: onnx.ModelProto, trained: Trained) -> None:
    interpolate_maps(model, trained, aligned_corners)


def _colours(model: onnx.ModelProto, trained: Trained) -> None:
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(item for item in model.graph.initializer if item.name == first.input[1])
    values = np.ascontiguousarray(numpy_helper.to_array(weight)[:, ::-1])
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


@pytest.mark.parametrize("damage", [_nearest, _corners, _colours])
@pytest.mark.parametrize(("format", "precision"), [("onnx", "fp32"), ("openvino", "fp32")])
def test_a_damaged_graph_is_refused(
    damage: Callable[[onnx.ModelProto, Trained], None], format: str, precision: str,
    graph: onnx.ModelProto, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    wrong = copy.deepcopy(graph)
    damage(wrong, trained)
    monkeypatch.setattr(module, "to_onnx", lambda detector: wrong)
    old = tmp_path / f"model{FORMATS[format]}"
    old.write_bytes(b"older artifact")
    with pytest.raises(GateError, match="differ") as caught:
        export_detector(trained, old, format=format, precision=precision)
    assert caught.value.exit_code == 3
    assert old.read_bytes() == b"older artifact"
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.usefixtures("quick", "loose")
@pytest.mark.parametrize("found", [Estimate(0.9, 0.8, 0.95), Estimate(1.02, 0.99, 1.05)])
def test_int8_that_is_not_surely_faster_is_refused(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Estimate
) -> None:
    monkeypatch.setattr(gate_module.Gate, "_speed_up", lambda *_: found)
    reason = rf"not surely faster: {found.value:.2f} times .* \({found.low:.2f} to {found.high:.2f}"
    with pytest.raises(GateError, match=reason) as caught:
        export_detector(trained, tmp_path / "model.onnx", precision="int8")
    assert "use fp32" in caught.value.remedy
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick", "loose_limits")
@pytest.mark.parametrize(("every", "faster"), [(1, True), (2, False)])
def test_how_much_faster_int8_is_has_an_interval(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, faster: bool
) -> None:
    """Twice as fast in each pair of runs, or only in every second one."""
    runs: list[Session] = []

    def seconds(session: Session, image: object) -> float:
        pair, second = divmod(len(runs), 2)
        runs.append(session)
        assert not second or runs[-2] is not session
        quick = session.spec.precision == "int8" and pair % every == 0
        return 0.5 if quick else 1.0

    monkeypatch.setattr(gate_module, "_seconds", seconds)
    if faster:
        done = export_detector(trained, tmp_path / "model.onnx", precision="int8")
        assert done.speed_up == 2
        assert runs[0] is runs[3]  # neither is always the first
    else:
        with pytest.raises(GateError, match=r"not surely faster: 1\.50 times .* \(1\.00 to 2\.00"):
            export_detector(trained, tmp_path / "model.onnx", precision="int8")


@pytest.mark.usefixtures("quick")
def test_labelled_images_are_compared_as_well(
    trained: Trained, tmp_path: Path, parts: Path
) -> None:
    done = export_detector(trained, tmp_path / "model.onnx", verify_on=parts)
    assert [item.name for item in done.parity.sets] == ["calibration", "drawn defects", "labelled"]
    labelled = done.parity.sets[-1]
    assert labelled.images == 8 and labelled.auroc[0] == labelled.auroc[1]
    assert done.spec.parity["sets"][2]["images"] == 8


@pytest.mark.usefixtures("quick")
def test_nothing_to_verify_on(trained: Trained, tmp_path: Path) -> None:
    only_good = write_parts(tmp_path / "parts") / "train" / "good"
    with pytest.raises(DataError, match="no labelled test images"):
        export_detector(trained, tmp_path / "model.onnx", verify_on=only_good)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_fixed_batch(format: str, trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / f"m{FORMATS[format]}"
    done = export_detector(trained, path, format=format, batch=2)
    images = trained.calibration_images()
    with open_session(done.path) as session:
        assert session.fixed_batch == 2
        found = session.run(images)
    free = export_detector(trained, tmp_path / f"n{FORMATS[format]}", format=format, batch=(1, 16))
    with open_session(free.path) as session:
        assert session.fixed_batch is None
        np.testing.assert_allclose(session.run(images).scores, found.scores, rtol=1e-5)


def test_batch_in_words() -> None:
    assert (batch_sizes(None), batch_sizes("4"), batch_sizes(" 1..16")) == (None, (4, 4), (1, 16))
    for text in ("", "x", "1-16", "-1", "1..", "0", "4..2"):
        with pytest.raises(UsageError, match="expected a size or a range"):
            batch_sizes(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"format": "tflite"}, "unknown format 'tflite'"),
        ({"precision": "int4"}, "unknown precision 'int4'"),
        ({"batch": 0}, "found 0..0"),
        ({"batch": (4, 2)}, "found 4..2"),
        ({"format": "openvino"}, "ends in .xml for openvino"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_what_cannot_be_asked_for(
    arguments: dict[str, Any], words: str, trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        export_detector(trained, tmp_path / "model.onnx", **arguments)
    assert words in str(caught.value) and not list(tmp_path.iterdir())


def refuse_to_load(trained: Trained) -> None:
    raise AssertionError("work began")


@pytest.mark.parametrize(
    ("missing", "arguments", "words"),
    [
        ("openvino", {"format": "openvino"}, r"generalad\[openvino\]"),
        ("tensorrt", {"format": "tensorrt"}, r"generalad\[trt10\]"),
    ],
)
def test_a_missing_library_is_said_before_any_work(
    missing: str,
    arguments: dict[str, Any],
    words: str,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(Trained, "calibration_images", refuse_to_load)
    with pytest.raises(MissingExtraError, match=words):
        export_detector(trained, **arguments)


def test_a_place_that_cannot_be_written_is_said_before_any_work(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.onnx").mkdir()
    monkeypatch.setattr(Trained, "calibration_images", refuse_to_load)
    with pytest.raises(StorageError, match="a file of that name is in the way"):
        export_detector(trained, tmp_path / "file" / "model.onnx")
    with pytest.raises(StorageError, match="it is a folder"):
        export_detector(trained, tmp_path / "folder.onnx")


@pytest.mark.usefixtures("quick")
def test_weights_beside_the_graph_when_it_is_large(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = export_detector(trained, tmp_path / "plain.onnx")
    monkeypatch.setattr(onnx_file, "MOST_INLINE", 100_000)
    for precision in ("fp32", "fp16"):
        done = export_detector(trained, tmp_path / "model.onnx", precision=precision)
        data = list(tmp_path.glob("model-*.data"))
        assert len(data) == 1, "that of the artifact before is gone"
        assert done.path.stat().st_size < data[0].stat().st_size
        images = trained.calibration_images()
        with open_session(done.path) as session, open_session(plain.path) as other:
            tolerance = 1e-6 if precision == "fp32" else 1e-2
            np.testing.assert_allclose(
                session.run(images).scores, other.run(images).scores, atol=tolerance
            )
    check_unchanged(done.path)
    whole = data[0].read_bytes()
    data[0].write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=data[0].name):
        selftest(done.path)
    data[0].write_bytes(whole[:1000])
    with pytest.raises(GadError):
        open_session(done.path)


@pytest.mark.usefixtures("quick")
def test_a_full_disk_stops_at_once(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(format: str, precision: str, material: Any) -> Iterator[Candidate]:
        def write(path: Path, spec: Any) -> None:
            raise StorageError("the disk is full", remedy="free some space")

        yield Candidate("fp32", "first", write)
        raise AssertionError("no other candidate is tried on a full disk")

    monkeypatch.setattr(module, "candidates", full)
    with pytest.raises(StorageError, match="disk is full"):
        export_detector(trained, tmp_path / "model.onnx")


def test_an_artifact_names_no_file_of_the_machine_it_was_made_on(exported: Exported) -> None:
    content = exported.path.read_bytes()
    assert str(Path(module.__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content


def test_one_changed_byte_is_found(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    content = exported.path.read_bytes()
    spec = content.rfind(b"generalad.graph_sha256")
    for place in (100, spec // 2, spec - 10):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ArtifactError):
            selftest(path)
    path.write_bytes(content)
    check_unchanged(path)
    assert selftest(path).equal


def test_the_record_is_plain_json(exported: Exported) -> None:
    record = json.loads(json.dumps(exported.spec.parity, allow_nan=False))
    assert record["limits"]["device"] == 1e-3
    assert record["sets"][1]["auroc"][0] is not None
