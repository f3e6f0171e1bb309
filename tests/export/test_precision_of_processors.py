"""Half precision of the processor: proven where it is, recorded, and never taken unproven."""

from __future__ import annotations

import dataclasses
import itertools
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import onnx
import openvino
import pytest
from cli_helpers import gad, one_line
from conftest import MakeArtifact
from import_helpers import BLOCKED, ROOT

import generalad
from generalad.errors import DataError, GadError, GateError, UsageError
from generalad.export import export as export_module
from generalad.export import half_precision
from generalad.export.export import Exported, export_detector
from generalad.export.gate import run_sets
from generalad.export.precision import processor_ladder, scope_of
from generalad.export.to_onnx import to_onnx
from generalad.export.to_openvino import PRECISE, convert, kept_in_float
from generalad.half_precision import FULL
from generalad.model.storage import Trained
from generalad.processor import Processor
from generalad.runtime import open_session
from generalad.runtime.artifact_copy import claimed, replace_spec
from generalad.runtime.backends import ort, ov
from generalad.runtime.backends.onnx_hash import check_unchanged
from generalad.runtime.backends.session import stored_spec
from generalad.runtime.selftest import selftest
from generalad.spec import GoldenSample
from generalad.statistics import Estimate

pytest_plugins = ["training_fixtures"]
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch

SHIFT = 0.25
"""What the thresholds in half precision differ by, where a test says so."""

REAL = ov.half_units(openvino.Core())
"""What the processor that runs the tests has."""


@pytest.fixture(scope="module")
def graph(trained: Trained) -> onnx.ModelProto:
    return to_onnx(trained.detector)


def pretend(patch: Patch, units: dict[str, str], faster: float = 1.9) -> None:
    """A processor with these units, which compute as float32 does, and faster by so much."""
    patch.setattr(ov, "half_units", lambda core: units)
    patch.setattr(ov, "HINTS", dict.fromkeys(ov.HINTS, "f32"))
    patch.setattr(half_precision, "speed_up", lambda *_: Estimate(faster, faster - 0.1, faster))


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory, trained: Trained, graph: onnx.ModelProto
) -> Iterator[Exported]:
    """Exported where AMX is, in half precision with thresholds of its own."""
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch, {"bf16": "amx_bf16"})
        patch.setattr(export_module, "to_onnx", lambda detector: onnx.ModelProto.FromString(
            graph.SerializeToString()))  # fmt: skip
        folder = tmp_path_factory.mktemp("half")
        done = export_detector(trained, folder / "model.xml", format="openvino", precision="fp16")
    assert done.half is not None
    half = dataclasses.replace(done.half, shift=(SHIFT, SHIFT))
    replace_spec(done.path, dataclasses.replace(done.spec, half_precisions=(half,)))
    yield done


def test_an_export_proves_it_and_says_on_what(written: Exported) -> None:
    half = written.half
    assert half is not None and not written.not_verified
    assert (half.precision, half.units, half.parity["precision"]) == ("bf16", "amx_bf16", "bf16")
    assert half.backend.endswith("CPU, bf16 on amx_bf16")
    assert half.parity["candidate"] == "bf16" and half.parity["flips"] == 0
    assert half.in_words() == "bf16 on amx_bf16, 1.90 (1.80 to 1.90) times as fast as float32"
    # The file itself holds for float32, as before.
    assert written.spec.precision == "fp16"
    assert written.spec.parity["backend"].endswith("CPU, f32")


def test_a_session_takes_it_with_its_thresholds(
    written: Exported, monkeypatch: Patch, trained: Trained
) -> None:
    pretend(monkeypatch, {"bf16": "amx_bf16"})
    with open_session(written.path) as session:
        assert session.precision == "bf16"
        assert session.backend.endswith("CPU, bf16 on amx_bf16")
        before = stored_spec(session).thresholds
        assert before == written.spec.thresholds
        assert session.spec.thresholds.image == pytest.approx(before.image + SHIFT)
        session.run(trained.calibration_images()[:1])
    assert selftest(written.path).equal
    with generalad.load(written.path) as model:
        assert model.precision == "bf16"


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ({}, "f32 (bf16 is verified on amx_bf16, not here)"),
        ({"bf16": "avx512_bf16"}, "f32 (bf16 is verified on amx_bf16, not here)"),
    ],
)
def test_without_the_units_it_is_float32(
    units: dict[str, str], words: str, written: Exported, monkeypatch: Patch, capsys: Capture
) -> None:
    pretend(monkeypatch, units)
    with open_session(written.path) as session:
        assert session.precision == FULL
        assert session.backend.endswith(f"CPU, {words}")
        assert session.spec.thresholds == written.spec.thresholds
    assert selftest(written.path).equal
    code, out, _ = gad(capsys, "info", written.path, "--json")
    found = json.loads(out)
    assert code == 0 and words in found["computed_here"]
    assert [one["units"] for one in found["half_precisions"]] == ["amx_bf16"]


def test_an_export_without_units_says_so(
    trained: Trained, tmp_path: Path, monkeypatch: Patch, capsys: Capture, graph: onnx.ModelProto
) -> None:
    pretend(monkeypatch, {})
    monkeypatch.setattr(export_module, "to_onnx", lambda detector: graph)
    code, out, err = gad(
        capsys, "export", trained.folder, "--format", "openvino", "--fp16",
        "-o", tmp_path / "m.xml", "--json",
    )  # fmt: skip
    assert code == 0 and json.loads(out)["half_precisions"] == []
    assert "is not verified, it is computed in float32: this processor" in " ".join(err.split())
    assert "gad selftest --verify-precision" in " ".join(err.split())
    # The marks are there for whoever has units.
    layers = ElementTree.parse(tmp_path / "m.xml").iter("layer")
    assert any(note.get("name") == PRECISE for layer in layers for note in layer.iter("attribute"))


def test_the_next_rung_is_tried(written: Exported, trained: Trained, tmp_path: Path,
                                monkeypatch: Patch, graph: onnx.ModelProto) -> None:  # fmt: skip
    pretend(monkeypatch, {"bf16": "amx_bf16"})
    monkeypatch.setattr(export_module, "to_onnx", lambda detector: graph)
    tried: list[str] = []
    real = half_precision.verify

    def verify(path: Path, precision: str, name: str, *others: Any) -> Any:
        tried.append(name)
        if len(tried) < 3:
            raise GateError("scores differ")
        return real(path, precision, name, *others)

    monkeypatch.setattr(half_precision, "verify", verify)
    done = export_detector(trained, tmp_path / "m.xml", format="openvino", precision="fp16")
    assert tried[:3] == [
        "bf16",
        "bf16, input layer in fp32",
        "bf16, input layer and sums in fp32",
    ]
    assert [one.name for one in done.refused] == tried[:2]
    assert done.half is not None and done.half.parity["candidate"] == tried[2]
    assert marked(done.path) > marked(written.path)


def test_a_rung_that_is_slow_has_no_safer_one(
    trained: Trained, tmp_path: Path, monkeypatch: Patch, graph: onnx.ModelProto
) -> None:
    pretend(monkeypatch, {"bf16": "amx_bf16", "fp16": "avx512_fp16"}, faster=0.9)
    monkeypatch.setattr(export_module, "to_onnx", lambda detector: graph)

    def verify(path: Path, precision: str, *others: Any) -> Any:
        raise GateError("scores differ")

    monkeypatch.setattr(half_precision, "verify", verify)
    done = export_detector(trained, tmp_path / "m.xml", format="openvino", precision="fp16")
    assert [one.name for one in done.refused] == ["bf16", "fp16"]
    assert "no safer rung is tried" in done.refused[0].reasons[1]
    assert done.half is None and done.not_verified == "no rung of bf16 or fp16 passed the gate"
    assert done.path.exists() and done.spec.half_precisions == ()


def marked(path: Path) -> int:
    """How many operations are kept in float32."""
    notes = ElementTree.parse(path).iter("attribute")
    return sum(note.get("name") == PRECISE for note in notes)


def test_rungs_keep_more_and_more(graph: onnx.ModelProto) -> None:
    model = convert(graph)
    rungs = [(name, kept_in_float(model, graph, keep)) for name, keep in processor_ladder(graph)]
    for (_, before), (_, after) in itertools.pairwise(rungs):
        assert before < after
    kinds = {one.get_friendly_name(): one.get_type_name() for one in model.get_ops()}
    names = dict(rungs)
    assert "maps" in names[""] and "scores" in names[""]
    norms = {name for name, kind in kinds.items() if kind == "MVN"}
    kept = {name for name, found in names.items() if norms <= found}
    assert kept == {name for name in names if "LayerNorm" in name}
    inputs = {node.name for node in graph.graph.node if "patch_embed" in scope_of(node)}
    assert inputs & names[", input layer in fp32"] and not inputs & names[""]


@pytest.mark.skipif("bf16" not in REAL, reason="this processor computes nothing in bfloat16")
def test_real_units_keep_the_score_head_in_float32(
    written: Exported, trained: Trained, tmp_path: Path
) -> None:
    images = trained.calibration_images()
    with (
        open_session(written.path, precision="bf16") as session,
        open_session(written.path, precision=FULL) as full,
    ):
        assert (session.precision, full.precision) == ("bf16", FULL)
        assert session.backend.endswith(f"bf16 on {REAL['bf16']}")
        found, expected = session.run(images), full.run(images)
    assert not np.array_equal(found.scores, expected.scores)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0.05, atol=0.05)
    core = openvino.Core()
    compiled = core.compile_model(str(written.path), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    types = {}
    for one in compiled.get_runtime_model().get_ops():
        notes = one.get_rt_info()
        for name in notes["originalLayersNames"].astype(str).split(","):
            types[name] = notes["outputPrecisions"].astype(str).split(",")[0]
    assert types["maps"] == types["scores"] == "f32"
    assert "bf16" in types.values()


def test_a_precision_that_is_not_there(written: Exported, monkeypatch: Patch) -> None:
    pretend(monkeypatch, {})
    with pytest.raises(UsageError, match="no units for bf16"):
        open_session(written.path, precision="bf16")
    with pytest.raises(UsageError, match="unknown precision 'fp8'"):
        open_session(written.path, precision="fp8")


def test_a_library_that_computes_something_else(written: Exported, monkeypatch: Patch) -> None:
    monkeypatch.setattr(ov, "half_units", lambda core: {"bf16": "amx_bf16"})
    monkeypatch.setattr(ov, "HINTS", {**ov.HINTS, FULL: "undefined"})
    with pytest.raises(
        GadError, match=r"openvino .* computes in \w+ where f32 was asked for"
    ) as caught:
        open_session(written.path, precision=FULL)
    assert "upgrade openvino" in caught.value.remedy


# -- on a device, without the detector


@pytest.fixture
def arm(monkeypatch: Patch) -> None:
    """A processor with the bfloat16 products that ONNX Runtime has for ARM."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(ort, "read_processor", lambda: Processor("N1", frozenset({"bf16"})))
    monkeypatch.setattr(half_precision, "speed_up", lambda *_: Estimate(1.5, 1.4, 1.6))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder of good images."""
    folder = tmp_path / "good"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(half_precision.LEAST):
        image = rng.integers(80, 100 + 5 * index, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


@pytest.fixture
def model(tmp_path: Path, make_artifact: MakeArtifact) -> Path:
    """An ONNX artifact with a golden sample, and a hash of its graph."""
    import base64

    from generalad.export.to_onnx import write_model
    from generalad.runtime.backends.fake import fake_spec

    _, png = cv2.imencode(".png", np.full((64, 64, 3), 51, np.uint8))
    sample = GoldenSample(base64.b64encode(png.tobytes()).decode(), 0.2, 0.2)
    spec = dataclasses.replace(fake_spec(), golden=(sample,), parity={"spread": 0.5})
    path = make_artifact(tmp_path)
    write_model(onnx.load(path), path, spec)
    return path


@pytest.mark.usefixtures("arm")
def test_a_device_verifies_and_records(model: Path, good: Path, capsys: Capture) -> None:
    with open_session(model) as session:
        assert session.precision == FULL
    code, _, err = gad(capsys, "selftest", model, "--verify-precision", good)
    assert code == 0, err
    assert "bf16 on bf16, 1.50 (1.40 to 1.60) times as fast as float32, taken from now on" in err
    assert "CPU, bf16 on bf16" in err  # the self-test that followed
    with open_session(model) as session:
        assert session.precision == "bf16" and session.backend.endswith("CPU, bf16 on bf16")
        (half,) = stored_spec(session).half_precisions
    assert half.processor and half.golden[0] == pytest.approx((0.2, 0.2))
    names = [one["name"] for one in half.parity["sets"]]
    assert names == ["calibration", "drawn defects", "golden samples"]
    check_unchanged(model)
    assert sorted(path.name for path in model.parent.iterdir()) == ["good", "model.onnx"]


@pytest.mark.usefixtures("arm")
def test_a_second_verification_takes_the_place_of_the_first(
    model: Path, good: Path, monkeypatch: Patch
) -> None:
    assert generalad.verify_precision(model, good).faster
    monkeypatch.setattr(half_precision, "speed_up", lambda *_: Estimate(0.8, 0.7, 0.9))
    found = generalad.verify_precision(model, str(good / "*.png"))
    assert not found.faster
    with open_session(model) as session:
        assert session.backend.endswith("CPU, f32 (bf16 on bf16 is not faster)")
        assert stored_spec(session).half_precisions == (found,)


@pytest.mark.usefixtures("arm")
def test_what_does_not_pass_changes_nothing(
    model: Path, good: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    before = model.read_bytes()
    real = run_sets

    def reversed_scores(session: Any, *others: Any) -> Any:
        found = real(session, *others)
        if session.precision == "bf16":
            found = [type(one)(one.scores[::-1].copy(), one.maps) for one in found]
        return found

    monkeypatch.setattr(half_precision, "run_sets", reversed_scores)
    code, _, err = gad(capsys, "selftest", model, "--verify-precision", good)
    assert code == 3
    line = err.splitlines()[-1]  # after those of the progress
    assert "bf16: calibration: scores differ" in line and "computed in float32" in line
    assert model.read_bytes() == before


@pytest.mark.usefixtures("arm")
def test_two_at_once(model: Path, good: Path) -> None:
    with claimed(model), pytest.raises(UsageError, match="written by another process"):
        generalad.verify_precision(model, good)
    assert generalad.verify_precision(model, good).units == "bf16"


@pytest.mark.usefixtures("arm")
def test_bad_images(model: Path, good: Path) -> None:
    (good / "0.png").unlink()
    with pytest.raises(DataError, match="at least 8 good images to verify with, found 7"):
        generalad.verify_precision(model, good)
    (good / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0\.png"):
        generalad.verify_precision(model, good)
    assert not list(model.parent.glob(".*"))


def test_a_device_without_units(model: Path, good: Path, capsys: Capture) -> None:
    code, _, err = gad(capsys, "selftest", model, "--verify-precision", good)
    assert code == 2
    assert "model.onnx: this processor, or its library, has no units" in one_line(err)


def test_what_cannot_be_verified(tmp_path: Path, good: Path) -> None:
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"")
    with pytest.raises(UsageError, match="an engine has its precision in its graph"):
        generalad.verify_precision(engine, good)
    with pytest.raises(UsageError, match="precision it was built in"):
        open_session(engine, precision="bf16")
    with pytest.raises(GadError, match="no such file"):
        generalad.verify_precision(tmp_path / "none" / "model.onnx", good)
    assert not (tmp_path / "none").exists()


def test_new_thresholds_move_those_of_all_precisions(
    written: Exported, trained: Trained, tmp_path: Path, monkeypatch: Patch
) -> None:
    pretend(monkeypatch, {"bf16": "amx_bf16"})
    recent = tmp_path / "recent"
    recent.mkdir()
    rng = np.random.default_rng(1)
    for index in range(10):
        noise = rng.integers(-3, 4, trained.calibration_images()[0].shape)
        image = trained.calibration_images()[index % 2].astype(int) + noise
        image = cv2.resize(image.clip(0, 255).astype(np.uint8), (80, 72))  # as parts are
        cv2.imwrite(str(recent / f"{index}.png"), image[..., ::-1])
    out = tmp_path / "new.xml"
    proposal = generalad.calibrate(written.path, recent, out)
    with open_session(out) as session:
        assert session.precision == "bf16"
        assert session.spec.thresholds.image == pytest.approx(proposal.new.thresholds.image)
    pretend(monkeypatch, {})
    with open_session(out) as session:
        expected = proposal.new.thresholds.image - SHIFT
        assert session.spec.thresholds.image == pytest.approx(expected)
        assert session.spec.golden == written.spec.golden
    assert selftest(out).equal


def test_verifying_needs_no_torch() -> None:
    code = f"import sys; sys.modules |= dict.fromkeys({BLOCKED!r})"
    code += "; import generalad.export.half_precision"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
